"""Flags of ``lexiseg adapt``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import (
    CLIP,
    DEVICE,
    METHOD,
    MODEL,
    SECOND_MODELS,
    SENTENCES,
    Command,
    Flag,
    Group,
)

_DESCRIPTION = """Learn what words look like from a few photographs with masks: no gradients, seconds.

MASKS holds STEM.png for each photograph: class ids in the order of the words, from 0; 255 says nothing, 254 is none of
these. Writes one small file, which `lexiseg predict --adapted FILE` takes, and beside it what each part contributed.
Pixels that a class without a mask wins keep their label."""

_EXAMPLES = """examples:
  lexiseg adapt photos/ masks/ --words "road, car, tree" --out street.safetensors
  lexiseg adapt photos/ masks/ --words "road, car" --judge more/ more_masks/         mIoU and calibration, before and after
  lexiseg adapt --example desk.jpg mug.png --words mug --out mug.safetensors         one thing in one photograph
  lexiseg predict room.jpg --classes mug --background other --adapted mug.safetensors
  lexiseg predict others/ --classes "road, car, tree" --adapted street.safetensors"""

COMMAND = Command(
    "adapt",
    "learn what words look like from a few photographs with masks",
    "lexiseg.cli.adapt:run",
    _DESCRIPTION,
    _EXAMPLES,
    (
        Flag("photos", "PHOTOS", "a folder of photographs, a file, or a glob", more={"nargs": "?"}),
        Flag("label_maps", "MASKS", "folder of STEM.png with class ids", kind=Path, more={"nargs": "?"}),
        Group(
            (
                Flag(
                    "--words",
                    "WORDS",
                    'names in the order of the ids, synonyms by ";"',
                    more={"dest": "classes"},
                ),
                Flag("--words-file", "FILE", 'one a line, synonyms by ";"', more={"dest": "classes_file"}),
            )
        ),
        Flag(
            "--example",
            "PHOTO MASK",
            "one thing instead: its mask is 0 elsewhere",
            kind=Path,
            more={"nargs": 2},
        ),
        Flag("--background", "WORDS", "what else may be there, with --example (default: other)"),
        Flag(
            "--ignore",
            "ID",
            "id in the masks that says nothing; may be repeated",
            kind=int,
            more={"action": "append"},
        ),
        Flag("--judge", "PHOTOS MASKS", "judge before and after on these", more={"nargs": 2}),
        Flag("--out", "FILE", "the adaptation", Path("adapted.safetensors"), kind=Path),
        *MODEL,
        CLIP,
        *SECOND_MODELS,
        *SENTENCES,
        DEVICE,
        METHOD,
    ),
)
