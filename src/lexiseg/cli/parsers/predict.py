"""Flags of ``lexiseg predict``."""

from lexiseg.cli.parsers.shared import METHOD, PHOTOS, READER, WORDS, Command, Flag, place

_DESCRIPTION = """Find things named in words. Every pixel of every photograph goes to the best matching class.

Results lie at the photograph's own size:
  STEM_labels.png    class ids as pixel values: palette PNG, or 16-bit grey beyond 255 classes
  STEM_overlay.png   the photograph coloured by class, with a legend; unseen classes hatched
  STEM.json          areas, scores, and every setting
  panoptic.json and panoptic/STEM.png, or instances.json, with --output: COCO's form instead, and overlays
  STEM_labels.tif    of a TIFF file, with --scale native: docs/huge-images.md
  coco.json, yolo/, labelme/, geojson/ ... with --format: for labelling tools; docs/labelling.md

Without --checkpoint a training-free reading of CLIP answers. An unreadable photograph is reported and
skipped; the run goes on and ends with status 1."""

_EXAMPLES = """examples:
  lexiseg predict photo.jpg --classes "dog, grass, sky"
  lexiseg predict photos/ "more/*.png" --classes-file classes.txt --out results
  lexiseg predict photo.jpg --classes "cat; kitten, sofa, wall"            synonyms behind a semicolon
  lexiseg predict photo.jpg --classes "dog" --background "grass, sky, wall, floor"
  lexiseg predict photo.jpg --classes "dog, grass" --threshold 0.6         unsure pixels get no class
  lexiseg predict photo.jpg --classes "dog, grass" --method tg-clip        all methods: lexiseg compare
  lexiseg predict photo.jpg --classes "dog, grass" --method tg-clip --strength 0.2 --scales 1 --flip none
  lexiseg predict photo.jpg --classes "dog, grass" --method trident --set sam_refine=true
  lexiseg predict photo.jpg --classes "dog, grass" --refine                borders along the colours
  lexiseg predict photos/ --classes "dog, grass" --format png,coco,labelme --pieces
  lexiseg predict photos/ --classes "dog, grass" --masks sam/              one class per mask of sam/STEM.png
  lexiseg predict photos/ --classes "dog, grass" --masks photos/           ... that `lexiseg masks build` made there
  lexiseg predict city.tif --classes "roof, road, tree" --scale native --format geojson
  lexiseg predict photo.jpg --classes "road, car" --checkpoint runs/camvid/best.ckpt
  lexiseg predict scene.png --classes "red circle, bricks" --clip toy      offline, toy scenes only"""

_REFINE_STEPS = 10
"""NACLIP's."""

_REFINE = f"spread scores between pixels of like colour (PAMR; {_REFINE_STEPS} steps if no number is given)"

_MASKS = (
    "one class per mask: DIR/STEM.png, STEM as in the results, holds mask ids as 8- or 16-bit pixel values at the "
    "photograph's size, 0 for no mask; or DIR is what `lexiseg masks build` wrote to, or holds SA-1B's JSON files; or "
    "a provider's name (superpixels, normalized_cut, sam, ...), made on the spot"
)

_SCALE = "leave photographs as large as they are; TIFF files of any size tile by tile, into STEM_labels.tif"

_FORMAT = "files: png, coco (or coco-polygons), panoptic, yolo, labelme, geojson, probabilities (default: png, or of --output)"

COMMAND = Command(
    "predict",
    "find things named in words in photographs",
    "lexiseg.cli.predict:run",
    _DESCRIPTION,
    _EXAMPLES,
    (
        PHOTOS,
        *WORDS,
        *READER,
        Flag("--threshold", "P", "scored below P (0 to 1): background, no class, no segment", kind=float),
        Flag("--refine", "STEPS", _REFINE, kind=int, more={"nargs": "?", "const": _REFINE_STEPS}),
        Flag("--scale", None, _SCALE, None, choices=("native",)),
        Flag("--masks", "DIR|PROVIDER", _MASKS),
        Flag("--output", None, "what is told", "semantic", choices=("semantic", "panoptic", "instances")),
        Flag("--format", "NAME,NAME", _FORMAT),
        Flag(
            "--pieces",
            None,
            "each piece of a class that hangs together is an object of its own (with --format)",
        ),
        Flag("--stuff", "WORDS", "classes that are not counted one by one, as sky; the others are things"),
        *place("predictions"),
        Flag("--no-overlay", None, "write no overlay pictures"),
        Flag("--scores", None, "write STEM_scores.png as well: score of each pixel, white is 1"),
        METHOD,
    ),
)
