"""Label maps of a data set and masks of a photograph: every mode, id, size, name and damage."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from campaign.case import Answer, Case, Expected
from campaign.made import SIZE, answered, check_prediction, predicting, scene
from campaign.weights import training

KIND = "label maps and masks"

CLASSES = ("dog", "cat", "sofa")
_CHECK = [
    "data",
    "check",
    "--data",
    "folder",
    "--images",
    "images",
    "--masks",
    "masks",
    "--classes",
    "classes.txt",
]

Ids = np.ndarray
Save = Callable[[Ids], None]
_MAP = Path("masks/a.png")


def ids() -> Ids:
    """``(H, W)``: three classes in stripes of different widths, and a corner that does not count."""
    array = np.zeros(SIZE, dtype=np.uint8)
    array[:, 13:] = 1
    array[:, 40:] = 2
    array[:5, :7] = 255
    return array


def cases() -> Iterator[Case]:
    """First label maps, then masks as ids, then masks as run lengths."""
    yield from _maps()
    yield from _void()
    yield from _folders()
    yield from _mask_ids()
    yield from _bad_mask_ids()
    yield from _run_lengths()
    yield from _builds()


def _save(**options: Any) -> Save:
    return lambda array: Image.fromarray(array).save(_MAP, **options)


def _palette(array: Ids) -> None:
    image = Image.fromarray(array, "P")
    image.putpalette([200, 10, 10] * 85 + [0] * 513)
    image.save(_MAP)


def _big(array: Ids) -> None:
    Image.fromarray(array.astype(np.uint16)).save(_MAP)


_GOOD: dict[str, tuple[Save, Ids]] = {
    "grey": (_save(), ids()),
    "palette": (_palette, ids()),
    "sixteen bits": (_big, ids()),
    "thirty-two bits": (
        lambda array: Image.fromarray(array.astype(np.int32)).save(_MAP, format="TIFF"),
        ids(),
    ),
    "a bitmap called png": (_save(format="BMP"), ids()),
    "nothing counts": (_save(), np.full(SIZE, 255, np.uint8)),
    "one class only": (_save(), np.full(SIZE, 2, np.uint8)),
    "two colours": (
        lambda array: Image.fromarray(np.where(array > 0, 255, 0).astype(np.uint8)).convert("1").save(_MAP),
        (np.indices(SIZE)[1] > 9).astype(np.uint8),
    ),
    "with orientation": (lambda array: _oriented(array), ids()),
    "with a colour profile": (_save(icc_profile=b"none"), ids()),
}


def _oriented(array: Ids) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(_MAP, exif=exif)


_BAD: dict[str, tuple[Save, tuple[str, ...]]] = {
    "an undeclared id": (
        lambda array: _save()(np.where(array == 2, 7, array).astype(np.uint8)),
        ("[7]", "ids"),
    ),
    "an id above 255": (lambda array: _big(array.astype(np.uint16) + 300), ("[300, 301, 302, 555]",)),
    "negative ids": (
        lambda array: Image.fromarray(array.astype(np.int32) - 9).save(_MAP, format="TIFF"),
        ("ids from -9",),
    ),
    "colours": (lambda array: Image.fromarray(scene()).save(_MAP), ("colour image",)),
    "colours with transparency": (
        lambda array: Image.fromarray(scene()).convert("RGBA").save(_MAP),
        ("colour image",),
    ),
    "grey with transparency": (
        lambda array: Image.fromarray(array).convert("LA").save(_MAP),
        ("colour image",),
    ),
    "floats": (lambda array: Image.fromarray(array.astype(np.float32)).save(_MAP, format="TIFF"), ("a.png",)),
    "JPEG": (_save(format="JPEG"), ("JPEG",)),
    "a smaller map": (lambda array: _save()(np.ascontiguousarray(array[:-1])), ("a.png",)),
    "a turned map": (lambda array: _save()(np.ascontiguousarray(array.T)), ("a.png",)),
    "a cut file": (lambda array: (_save()(array), _MAP.write_bytes(_MAP.read_bytes()[:-40]))[0], ("a.png",)),
    "an empty file": (lambda array: _MAP.write_bytes(b"") and None, ("a.png",)),
    "text": (lambda array: _MAP.write_text("0 1 2") and None, ("a.png",)),
    "a folder": (lambda array: _MAP.mkdir(), ("a.png",)),
    "a link to itself": (lambda array: _MAP.symlink_to("a.png"), ("a.png",)),
    "no map": (lambda array: None, ("missing", "a.png")),
    "another ending": (lambda array: Image.fromarray(array).save("masks/a.gif"), ("a.png",)),
}


def _dataset(save: Save, array: Ids, classes: str = "dog\ncat; kitten\nsofa\n") -> None:
    for name in ("images", "masks"):
        Path(name).mkdir()
    Image.fromarray(scene()).save("images/a.png")
    Path("classes.txt").write_text(classes, encoding="utf-8")
    save(array)


def _maps() -> Iterator[Case]:
    for name, (save, array) in _GOOD.items():

        def prepare(save: Save = save, array: Ids = array) -> list[str]:
            _dataset(save, array)
            return [*_CHECK, "--out", "out"]

        def judge(answer: Answer, array: Ids = array) -> None:
            told = re.findall(r"│\s*(\d+)\s*│\s*(\w+)\s*│[^│]*│\s*([\d,]+)\s*│", answer.out)
            expected = [(str(i), name, f"{int((array == i).sum()):,}") for i, name in enumerate(CLASSES)]
            assert told == expected, f"told {told}, expected {expected}"

        yield Case(KIND, f"label map: {name}", prepare, Expected.ANSWERED, judge)
    for name, (save, says) in _BAD.items():

        def prepare_bad(save: Save = save) -> list[str]:
            _dataset(save, ids())
            return [*_CHECK, "--out", "out"]

        yield Case(KIND, f"label map: {name}", prepare_bad, Expected.REFUSED, says=says)
    # The same through training, where a user says what ids mean.
    for typed, expected in (
        ("data.train.id_map={0:0,1:1,2:2}", Expected.EITHER),
        ("data.train.id_map={0:0,1:1,2:3}", Expected.REFUSED),
        ("data.train.id_map={0:0,1:1}", Expected.REFUSED),
        ("data.train.id_map={0:0,1:1,2:2,300:1}", Expected.REFUSED),
        ("data.train.id_map={a:0}", Expected.REFUSED),
        ("data.train.id_map={0:word}", Expected.REFUSED),
        ("data.train.id_map=[0,1,2]", Expected.REFUSED),
        ("data.train.id_map=word", Expected.REFUSED),
        ("data.train.ignore_ids=255", Expected.REFUSED),
        ("data.train.ignore_ids=[word]", Expected.REFUSED),
        ("data.train.ignore_ids=[300]", Expected.REFUSED),
        ("data.train.ignore_ids=[-1]", Expected.REFUSED),
        ("data.train.ignore_ids=[0]", Expected.REFUSED),
        ("data.train.ignore_ids=null", Expected.EITHER),
        ("data.train.background=word", Expected.REFUSED),
        ("data.train.background=class", Expected.EITHER),
        ("data.train.background_id=word", Expected.REFUSED),
        ("data.train.background_id=300", Expected.EITHER),
        ("data.train.mask_suffix=.tif", Expected.REFUSED),
        ("data.train.mask_suffix=null", Expected.REFUSED),
        ("data.train.images=nowhere", Expected.REFUSED),
        ("data.train.images=classes.txt", Expected.REFUSED),
        ("data.train.masks=classes.txt", Expected.REFUSED),
        ("data.train.classes=images", Expected.REFUSED),
        ("data.train.classes=[]", Expected.REFUSED),
        ("data.train.classes=[dog,dog,cat]", Expected.REFUSED),
        ("data.train.classes=[dog,7,cat]", Expected.EITHER),
    ):

        def prepare_train(typed: str = typed) -> list[str]:
            _dataset(_save(), ids())
            return _training_on_the_folder(typed)

        yield Case(KIND, f"training with {typed}", prepare_train, expected)


def _training_on_the_folder(*more: str) -> list[str]:
    given = ["data.train.images=images", "data.train.masks=masks", "data.train.classes=classes.txt"]
    given += ["data.val.images=images", "data.val.masks=masks", "data.num_workers=0"]
    given += ["data.train_transform.base=[40,72]", "data.train_transform.crop=[40,72]"]
    changed = {override.partition("=")[0] for override in more}
    kept = [override for override in given if override.partition("=")[0] not in changed]
    small = [override for override in training() if not override.startswith("data.")]
    return [*small, "data=folder", "split=custom", "split.unseen=[sofa]", "data.batch_size=2", *kept, *more]


def _void() -> Iterator[Case]:
    """Ids that do not count, beside 255: a user names them, in training and before it."""
    void = ids()
    void[-3:] = 254

    def check(*more: str) -> Callable[[], list[str]]:
        def prepare() -> list[str]:
            _dataset(_save(), void)
            return [*_CHECK, "--out", "out", *more]

        return prepare

    def judge(answer: Answer) -> None:
        answered(answer, f"{int((void == 2).sum()):,}", "254, 255")

    yield Case(KIND, "void ids that nobody named", check(), says=("[254]", "ignore_ids"))
    yield Case(KIND, "void ids that were named", check("--ignore-ids", "254,255"), Expected.ANSWERED, judge)
    for value in ("", "word", "300", "-1", "0", "254,,255", "254;255"):
        yield Case(KIND, f"data check --ignore-ids {value!r}", check("--ignore-ids", value))

    def train() -> list[str]:
        _dataset(_save(), void)
        return _training_on_the_folder("data.train.ignore_ids=[254,255]")

    yield Case(KIND, "training with void ids that were named", train, Expected.ANSWERED)


def _folders() -> Iterator[Case]:
    def two_of_one_name() -> list[str]:
        _dataset(_save(), ids())
        Image.fromarray(scene()).save("images/a.bmp")
        return [*_CHECK, "--out", "out"]

    yield Case(KIND, "two images of one stem", two_of_one_name, says=("share the stem 'a'",))

    def no_images() -> list[str]:
        _dataset(_save(), ids())
        Path("images/a.png").unlink()
        return [*_CHECK, "--out", "out"]

    yield Case(KIND, "no image in the folder", no_images, says=("no image in that folder",))

    def odd_photo() -> list[str]:
        _dataset(_save(), ids())
        Path("images/a.png").write_bytes(b"no picture")
        return [*_CHECK, "--out", "out"]

    yield Case(KIND, "a label map of something that is no picture", odd_photo, says=("a.png",))
    for flag, value in (
        ("--overlays", "-1"),
        ("--overlays", "word"),
        ("--overlays", "99999999999999999999"),
        ("--split", "no_such"),
        ("--split", "classes.txt"),
        ("--split", "voc_15_5"),
        ("--partition", "no_such"),
        ("--classes", "nowhere.txt"),
        ("--classes", "images"),
        ("--masks", "nowhere"),
        ("--images", "classes.txt"),
        ("--mask-suffix", ""),
        ("--mask-suffix", "/../a.png"),
        ("--out", "classes.txt"),
        ("--out", "classes.txt/deeper"),
        ("--root", "nowhere"),
        ("--data", "no_such"),
        ("--data", "voc"),
        ("--data", ""),
    ):

        def prepare_flag(flag: str = flag, value: str = value) -> list[str]:
            _dataset(_save(), ids())
            return [*_CHECK, "--out", "out", flag, value]

        yield Case(KIND, f"data check {flag} {value!r}", prepare_flag, Expected.EITHER)
    for name, text in (
        ("no mapping", "- 1\n- 2\n"),
        ("no YAML", "a: [1\n"),
        ("an unknown class", "name: x\nunseen: [zebra]\n"),
        ("unseen is a text", "name: x\nunseen: dog\n"),
        ("unseen is a number", "name: x\nunseen: 5\n"),
        ("unseen is nothing", "name: x\nunseen:\n"),
        ("ids for names", "name: x\nunseen: [1]\n"),
        ("another setting", "name: x\nunseen: [dog]\nsetting: 3\n"),
        ("a key too many", "name: x\nunseen: [dog]\nmore: 1\n"),
        ("binary", "\0\1\2"),
        ("an object to build", "name: !!python/object/apply:os.system ['touch was-run']\nunseen: [dog]\n"),
        ("anchors without end", "name: &a [*a]\nunseen: [dog]\n"),
    ):

        def prepare_split(text: str = text) -> list[str]:
            _dataset(_save(), ids())
            Path("split.yaml").write_bytes(text.encode("utf-8"))
            return [*_CHECK, "--out", "out", "--split", "split.yaml"]

        yield Case(
            KIND,
            f"a split file: {name}",
            prepare_split,
            Expected.EITHER if "anchors" in name else Expected.REFUSED,
        )


def _two() -> Ids:
    return np.where(np.indices(SIZE)[1] < 30, 3, 9).astype(np.uint8)


def _many() -> Ids:
    return np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE)


def _mask_ids() -> Iterator[Case]:
    two, many = _two(), _many()

    def palette(path: str) -> None:
        image = Image.fromarray(two, "P")
        image.putpalette([7, 7, 7] * 256)
        image.save(path)

    good: dict[str, tuple[Callable[[str], Any], Ids]] = {
        "grey": (lambda path: Image.fromarray(two).save(path), two),
        "palette": (palette, two),
        "sixteen bits": (lambda path: Image.fromarray(two.astype(np.uint16) * 7000).save(path), two),
        "a mask per pixel": (lambda path: Image.fromarray(many).save(path), many),
        "no mask at all": (
            lambda path: Image.fromarray(np.zeros(SIZE, np.uint8)).save(path),
            np.zeros(SIZE, np.uint8),
        ),
        "a pixel's mask": (lambda path: Image.fromarray(_pixel()).save(path), _pixel()),
    }
    for name, (save, array) in good.items():

        def prepare(save: Callable[[str], Any] = save) -> list[str]:
            Image.fromarray(scene()).save("photo.png")
            Path("given").mkdir()
            save("given/photo.png")
            return predicting("photo.png", "--masks", "given")

        def judge(_: Answer, array: Ids = array) -> None:
            found = check_prediction("photo", SIZE)
            for index in np.unique(array)[:50]:
                if index:
                    assert len(np.unique(found[array == index])) == 1, f"two classes within mask {index}"

        yield Case(KIND, f"masks: {name}", prepare, Expected.ANSWERED, judge, mebibytes=6144)


def _bad_mask_ids() -> Iterator[Case]:
    two, many = _two(), _many()
    bad: dict[str, Callable[[str], Any]] = {
        "another size": lambda path: Image.fromarray(two[:-3].copy()).save(path),
        "turned": lambda path: Image.fromarray(two.T.copy()).save(path),
        "colours": lambda path: Image.fromarray(scene()).save(path),
        "JPEG": lambda path: Image.fromarray(two).save(path, format="JPEG"),
        "text": lambda path: Path(path).write_text("masks"),
        "an empty file": lambda path: Path(path).write_bytes(b""),
        "a cut file": lambda path: (
            Image.fromarray(many).save(path),
            Path(path).write_bytes(Path(path).read_bytes()[:90]),
        ),
        "floats": lambda path: Image.fromarray(two.astype(np.float32)).save(path, format="TIFF"),
        "nothing": lambda path: None,
        "a folder": lambda path: Path(path).mkdir(),
    }
    for name, save in bad.items():

        def prepare_bad(save: Callable[[str], Any] = save) -> list[str]:
            Image.fromarray(scene()).save("photo.png")
            Path("given").mkdir()
            save("given/photo.png")
            return predicting("photo.png", "--masks", "given")

        yield Case(KIND, f"masks: {name}", prepare_bad, Expected.SKIPPED, says=("photo.png",))
    for place in ("nowhere", "photo.png", "", "superpixel"):

        def prepare_place(place: str = place) -> list[str]:
            Image.fromarray(scene()).save("photo.png")
            return predicting("photo.png", "--masks", place)

        yield Case(
            KIND, f"--masks {place!r}", prepare_place, Expected.SKIPPED if not place else Expected.REFUSED
        )


def _pixel() -> Ids:
    array = np.zeros(SIZE, dtype=np.uint8)
    array[23, 41] = 200
    return array


def _file(**changes: Any) -> dict[str, Any]:
    area = SIZE[0] * SIZE[1]
    annotation = {
        "id": 1,
        "segmentation": {"size": list(SIZE), "counts": [SIZE[0] * 30, area - SIZE[0] * 30]},
        "area": area - SIZE[0] * 30,
        "bbox": [30, 0, 42, 40],
        "predicted_iou": 0.9,
        "stability_score": 0.95,
    }
    about = {"file_name": "photo.png", "height": SIZE[0], "width": SIZE[1]}
    return {"image": about | changes.pop("image", {}), "annotations": [annotation | changes]}


def _counts(counts: Any) -> dict[str, Any]:
    return _file(segmentation={"size": list(SIZE), "counts": counts})


_AREA = SIZE[0] * SIZE[1]
_RUN_LENGTHS: dict[str, tuple[Any, Expected]] = {
    "as they should be": (_file(), Expected.ANSWERED),
    "no scores": (_file(predicted_iou=None, stability_score=None), Expected.ANSWERED),
    "no annotations": ({**_file(), "annotations": []}, Expected.ANSWERED),
    "an empty mask": (_counts([_AREA]), Expected.ANSWERED),
    "zeros between": (_counts([0, 0, 0, _AREA]), Expected.ANSWERED),
    "too long": (_counts([0, _AREA + 1]), Expected.SKIPPED),
    "too short": (_counts([7, 9]), Expected.SKIPPED),
    "no runs": (_counts([]), Expected.SKIPPED),
    "negative": (_counts([-5, _AREA + 5]), Expected.SKIPPED),
    "overflowing": (_counts([2**62, 2**62, 2**62, 2**62 + _AREA]), Expected.SKIPPED),
    "beyond 64 bits": (_counts([10**30]), Expected.SKIPPED),
    "fractions": (_counts([0.5, _AREA - 0.5]), Expected.SKIPPED),
    "not numbers": (_counts([float("nan"), _AREA]), Expected.SKIPPED),
    "words": (_counts(["a", "b"]), Expected.SKIPPED),
    "nested": (_counts([[1, 2], [3]]), Expected.SKIPPED),
    "nothing": (_counts(None), Expected.SKIPPED),
    "a string of foreign letters": (_counts("é!"), Expected.SKIPPED),
    "a cut string": (_counts("o"), Expected.SKIPPED),
    "an empty string": (_counts(""), Expected.SKIPPED),
    "a string beyond 64 bits": (_counts("o" * 40 + "0"), Expected.SKIPPED),
    "polygons": (_file(segmentation=[[1, 2, 3, 4]]), Expected.SKIPPED),
    "no segmentation": (_file(segmentation=None), Expected.SKIPPED),
    "another size": (_file(segmentation={"size": [72, 40], "counts": [_AREA]}), Expected.SKIPPED),
    "a size of words": (_file(segmentation={"size": "big", "counts": [_AREA]}), Expected.SKIPPED),
    "another image": (_file(image={"file_name": "other.png"}), Expected.SKIPPED),
    "a negative image": (_file(image={"height": -40, "width": -72}), Expected.SKIPPED),
    "an endless image": (_file(image={"height": 10**9, "width": 10**9}), Expected.SKIPPED),
    "an image of words": (_file(image={"height": "tall"}), Expected.SKIPPED),
    "an image that is not a number": (_file(image={"height": float("nan")}), Expected.SKIPPED),
    "an endless side": (_file(image={"height": float("inf")}), Expected.SKIPPED),
    "scores of words": (_file(predicted_iou="good"), Expected.SKIPPED),
    "scores of lists": (_file(predicted_iou=[1]), Expected.SKIPPED),
    "annotations are an object": ({**_file(), "annotations": {}}, Expected.EITHER),
    "annotations are a number": ({**_file(), "annotations": 5}, Expected.SKIPPED),
    "an annotation is a number": ({**_file(), "annotations": [5]}, Expected.SKIPPED),
    "no image": ({"annotations": []}, Expected.SKIPPED),
    "a list": ([], Expected.SKIPPED),
    "a number": (7, Expected.SKIPPED),
    "null": (None, Expected.SKIPPED),
}
_TEXTS = {
    "no JSON": b"{",
    "an empty file": b"",
    "binary": bytes(range(256)),
    "ten thousand brackets": b"[" * 10_000,
    "a cut file": json.dumps(_file()).encode()[:-30],
    "UTF-16": json.dumps(_file()).encode("utf-16"),
}


def _with_masks(content: bytes) -> list[str]:
    """A photograph and a mask file; the arguments of ``predict`` with both."""
    Image.fromarray(scene()).save("photo.png")
    Path("given").mkdir()
    Path("given/photo.png.masks.json").write_bytes(content)
    return predicting("photo.png", "--masks", "given")


def _run_lengths() -> Iterator[Case]:
    def given(content: bytes) -> Callable[[], list[str]]:
        return lambda: _with_masks(content)

    def judge(_: Answer) -> None:
        check_prediction("photo", SIZE)

    for name, (content, expected) in _RUN_LENGTHS.items():
        yield Case(KIND, f"run lengths: {name}", given(json.dumps(content).encode()), expected, judge)
    for name, text in _TEXTS.items():
        expected = Expected.EITHER if name == "UTF-16" else Expected.SKIPPED
        yield Case(KIND, f"run lengths: {name}", given(text), expected, judge)


_BUILD = ("masks", "build", "photo.png", "--output", "out")


def _builds() -> Iterator[Case]:
    def given(content: bytes) -> Callable[[], list[str]]:
        return lambda: _with_masks(content)

    def shown() -> list[str]:
        given(json.dumps(_counts([7, 9])).encode())()
        return ["masks", "show", "photo.png", "--masks", "given", "--output", "out"]

    yield Case(KIND, "masks show: too short", shown, Expected.EITHER)
    for name, arguments, expected in (
        ("nothing there", ["masks", "build", "nowhere"], Expected.REFUSED),
        ("an empty folder", ["masks", "build", "given", "--output", "out"], Expected.REFUSED),
        (
            "regions of words",
            [*_BUILD, "--regions", "a,b"],
            Expected.REFUSED,
        ),
        ("no regions", [*_BUILD, "--regions", ""], Expected.REFUSED),
        (
            "negative regions",
            [*_BUILD, "--regions", "-3"],
            Expected.REFUSED,
        ),
        (
            "regions without end",
            [*_BUILD, "--regions", "9" * 30],
            Expected.EITHER,
        ),
        ("no side", [*_BUILD, "--side", "0"], Expected.REFUSED),
        (
            "a side without end",
            [*_BUILD, "--side", "9" * 30],
            Expected.EITHER,
        ),
        (
            "no workers",
            [*_BUILD, "--workers", "0"],
            Expected.REFUSED,
        ),
        (
            "negative workers",
            [*_BUILD, "--workers", "-2"],
            Expected.REFUSED,
        ),
        (
            "workers without end",
            [*_BUILD, "--workers", "9" * 30],
            Expected.EITHER,
        ),
        ("into a file", ["masks", "build", "photo.png", "--output", "photo.png"], Expected.REFUSED),
        ("below a file", ["masks", "build", "photo.png", "--output", "photo.png/deeper"], Expected.REFUSED),
        (
            "a provider's foreign flag",
            [*_BUILD, "--clusters", "3"],
            Expected.REFUSED,
        ),
        (
            "a model that is not there",
            [*_BUILD, "--provider", "dino", "--model", "gone"],
            Expected.REFUSED,
        ),
        (
            "a model that is a file",
            [*_BUILD, "--provider", "sam", "--model", "photo.png"],
            Expected.REFUSED,
        ),
        (
            "a quality that is none",
            [*_BUILD, "--provider", "sam", "--min-quality", "nan"],
            Expected.REFUSED,
        ),
        (
            "an overlap that is none",
            [*_BUILD, "--provider", "sam", "--overlap", "x"],
            Expected.REFUSED,
        ),
        (
            "points without end",
            [*_BUILD, "--provider", "sam", "--points", "9" * 30],
            Expected.REFUSED,
        ),
    ):

        def build(arguments: list[str] = arguments) -> list[str]:
            given(b"")()
            return arguments

        yield Case(KIND, f"masks build: {name}", build, expected)

    def built() -> list[str]:
        Image.fromarray(scene(61, 83)).save("photo.png")
        return [*_BUILD, "--workers", "1"]

    def judge_built(answer: Answer) -> None:
        answered(answer, "1 made")
        told = json.loads(Path("out/photo.png.masks.json").read_text(encoding="utf-8"))
        assert (told["image"]["height"], told["image"]["width"]) == (61, 83)
        assert all(entry["segmentation"]["size"] == [61, 83] for entry in told["annotations"])

    yield Case(KIND, "masks build: a photograph", built, Expected.ANSWERED, judge_built)
