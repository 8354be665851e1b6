"""Class names: every encoding, repetition, length and script, on the command line and in files."""

from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from campaign.case import Answer, Case, Expected
from campaign.made import SIZE, WORDS, check_prediction, predicting, scene

KIND = "class lists"


def cases() -> Iterator[Case]:
    """First what is typed, then files, then the background."""
    for number, (text, names) in enumerate(_TYPED):
        yield _of(
            f"typed {number}: {text[:30]!r}", lambda text=text: predicting("photo.png", words=text), names
        )  # type: ignore[misc]
    for name, content, names in _files():

        def with_file(content: bytes = content) -> list[str]:
            Path("words.txt").write_bytes(content)
            return predicting("photo.png", "--classes-file", "words.txt", words=None)

        yield _of(f"file: {name}", with_file, names)
    for name, make in _PLACES.items():

        def with_place(make: Callable[[Path], object] = make) -> list[str]:
            make(Path("words.txt"))
            return predicting("photo.png", "--classes-file", "words.txt", words=None)

        yield _of(f"file: {name}", with_place, None)
    for text, refused in (
        ("bricks", False),
        ("", True),
        (",", True),
        ("red circle", True),
        ("bricks, Bricks", False),
        ("bricks; wall", False),
        ("x" * 5000, True),
    ):
        yield _of(
            f"background {text[:20]!r}",
            lambda text=text: predicting("photo.png", "--background", text),  # type: ignore[misc]
            None if refused else ("background", *WORDS),
        )
    for flag, value, expected in (
        ("--threshold", "nan", Expected.REFUSED),
        ("--threshold", "-0.1", Expected.REFUSED),
        ("--threshold", "1", Expected.REFUSED),
        ("--threshold", "word", Expected.REFUSED),
        ("--threshold", "inf", Expected.REFUSED),
        ("--refine", "-1", Expected.REFUSED),
        ("--refine", "word", Expected.REFUSED),
        ("--refine", "1.5", Expected.REFUSED),
        ("--format", "", Expected.REFUSED),
        ("--format", "png,xml", Expected.REFUSED),
        ("--format", "coco,coco-polygons", Expected.REFUSED),
        ("--stuff", "bricks", Expected.REFUSED),
        ("--method", "no-such", Expected.REFUSED),
        ("--method", "", Expected.REFUSED),
        ("--method", "proxyclip", Expected.REFUSED),
        ("--strength", "nan", Expected.REFUSED),
        ("--strength", "-1", Expected.REFUSED),
        ("--strength", "1e40", Expected.REFUSED),
        ("--temperature", "1", Expected.REFUSED),  # of a recalibration that is off
        ("--scales", "word", Expected.REFUSED),
        ("--scales", "", Expected.REFUSED),
        ("--scales", "0", Expected.REFUSED),
        ("--scales", "nan", Expected.REFUSED),
        ("--scales", "1e9", Expected.SKIPPED),
        ("--flip", "up", Expected.REFUSED),
        ("--fusion", "entropy", Expected.REFUSED),
        ("--proxy", "gone", Expected.REFUSED),
        ("--sam", "gone", Expected.REFUSED),
        ("--set", "", Expected.REFUSED),
        ("--set", "no_such=1", Expected.REFUSED),
        ("--set", "projections=", Expected.REFUSED),
        ("--set", "projections=[word]", Expected.REFUSED),
        ("--set", "projections={a: 1}", Expected.REFUSED),
        ("--set", "projections=[1", Expected.REFUSED),
        ("--set", "learned=1", Expected.REFUSED),
        ("--set", "tower=1", Expected.REFUSED),
        ("--set", "residual=${oc.env:HOME}", Expected.REFUSED),
        ("--set", "tg-clip.strength=1", Expected.REFUSED),
        ("--templates", "no_such", Expected.REFUSED),
        ("--templates", "", Expected.EITHER),
        ("--clip", "gone", Expected.REFUSED),
        ("--clip", "", Expected.REFUSED),
        ("--clip", "photo.png", Expected.REFUSED),
        ("--clip", ".", Expected.REFUSED),
        ("--tokenizer", "gone", Expected.EITHER),
        ("--device", "abacus", Expected.REFUSED),
        ("--device", "cuda:99", Expected.REFUSED),
        ("--device", "", Expected.REFUSED),
        ("--device", "meta", Expected.REFUSED),
        ("--device", "mps", Expected.REFUSED),
        ("--checkpoint", "gone", Expected.REFUSED),
        ("--checkpoint", "", Expected.REFUSED),
        ("--no-such-flag", "", Expected.REFUSED),
        ("--classes-file", "gone", Expected.REFUSED),
    ):

        def flagged(flag: str = flag, value: str = value) -> list[str]:
            Image.fromarray(scene()).save("photo.png")
            return predicting("photo.png", flag, value)

        yield Case(KIND, f"predict {flag} {value!r}", flagged, expected)


def _of(name: str, arguments: Callable[[], list[str]], names: tuple[str, ...] | None) -> Case:
    def prepare() -> list[str]:
        Image.fromarray(scene()).save("photo.png")
        return arguments()

    def judge(_: Answer) -> None:
        check_prediction("photo", SIZE, names or ())

    expected = Expected.REFUSED if names is None else Expected.ANSWERED
    return Case(KIND, name, prepare, expected, judge, seconds=120)


_TYPED: tuple[tuple[str, tuple[str, ...] | None], ...] = (
    ("", None),
    ("   ", None),
    (",", None),
    (",,,", None),
    (";", None),
    ("red circle,", None),
    (",red circle", None),
    ("red circle,,blue square", None),
    ("red circle;", None),
    ("red circle;;bricks", None),
    ("red circle, red circle", None),
    ("red circle, RED CIRCLE", None),
    ("red circle; bricks, bricks", None),
    ("red circle, blue square", WORDS),
    ("red circle,blue square", WORDS),
    ("  red circle  ,  blue square  ", WORDS),
    ("red circle; bricks, blue square", WORDS),
    ("red circle\nblue square", WORDS),
    ("red circle\nblue square\n", WORDS),
    ("red circle\n\nblue square", WORDS),
    ("blue square, red circle", WORDS[::-1]),
    ("red circle", ("red circle",)),
    ("red {} circle", ("red {} circle",)),
    ("{", ("{",)),
    ("{0} and {name}", ("{0} and {name}",)),
    ("%s %d", ("%s %d",)),
    ("[bold]red[/bold]", ("[bold]red[/bold]",)),
    ("[/]", ("[/]",)),
    ("\\", ("\\",)),
    ("'; DROP TABLE x; --'", ("'",)),
    ("../../up", ("../../up",)),
    ("-1", ("-1",)),
    ("null", ("null",)),
    ("0", ("0",)),
    ("日本語, العربية, עברית", ("日本語", "العربية", "עברית")),
    ("🐶, 👩‍👩‍👧‍👦", ("🐶", "👩‍👩‍👧‍👦")),
    ("e\u0301tude", ("e\u0301tude",)),
    ("a\u200bb", ("a\u200bb",)),
    ("\u202eabc", ("\u202eabc",)),
    ("x" * 5000, None),
    ("red circle " * 200, None),
)
"""What is typed, and the class names that it means; None: it is refused."""


def _files() -> Iterator[tuple[str, bytes, tuple[str, ...] | None]]:
    plain = "red circle\nblue square\n"
    yield "plain", plain.encode(), WORDS
    yield "no last line break", plain.rstrip().encode(), WORDS
    yield "carriage returns", plain.replace("\n", "\r\n").encode(), WORDS
    yield "old Macintosh", plain.replace("\n", "\r").encode(), WORDS
    yield "byte order mark", plain.encode("utf-8-sig"), WORDS
    yield "blank lines", b"\n\nred circle\n\n\nblue square\n\n", WORDS
    yield "tabs", b"\tred circle\t\n\tblue square", WORDS
    yield "synonyms", b"red circle; bricks\nblue square;dotted star\n", WORDS
    yield (
        "commas are part of a name",
        b"red circle, or so\nblue square\n",
        ("red circle, or so", "blue square"),
    )
    yield "empty", b"", None
    yield "white space", b" \n\t\n ", None
    yield "semicolons", b";\n;;\n", None
    yield "an empty synonym", b"red circle;\nblue square\n", None
    yield "twice", b"red circle\nred circle\n", None
    yield "twice in another case", b"red circle\nRED CIRCLE\n", None
    yield "UTF-16", plain.encode("utf-16"), None
    yield "Latin-1", "fenêtre\n".encode("latin-1"), None
    yield "binary", bytes(range(128, 256)), None
    yield "a picture", b"\x89PNG\r\n\x1a\n" + bytes([0xFF, 0xD8]) * 9, None
    yield "one very long line", b"red circle " * 100_000, None
    yield (
        "a thousand words",
        "\n".join(f"thing {i}" for i in range(1000)).encode(),
        tuple(f"thing {i}" for i in range(1000)),
    )
    yield (
        "ten thousand words",
        "\n".join(f"thing {i}" for i in range(10_000)).encode(),
        tuple(f"thing {i}" for i in range(10_000)),
    )
    yield "more words than 16 bits hold", "\n".join(f"t{i}" for i in range(65_537)).encode(), None


_PLACES: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to nowhere": lambda path: path.symlink_to("gone"),
    "nothing": lambda path: None,
    "an empty device": lambda path: path.symlink_to("/dev/null"),
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
}
