"""A strict account of names and shapes: what is missing, what is too much, what is of another size."""

from collections.abc import Mapping, Sequence

from lexiseg.errors import CheckpointError

_SHOWN_NAMES = 6
"""Of each kind of wrong key in a message: enough to recognise the pattern, few enough to read."""


def check_keys(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], *, what: str
) -> None:
    """Compare names and shapes and report every kind of difference at once, a few names of each and how many there are.

    Raises:
        CheckpointError: Anything is missing, superfluous or of another shape.
    """
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    shapes = [
        f"{name}: expected {expected[name]}, got {found[name]}"
        for name in sorted(expected.keys() & found.keys())
        if expected[name] != found[name]
    ]
    complaints = [
        f"{title}: {some_names(names)}"
        for title, names in (("missing", missing), ("unknown", extra), ("wrong shape", shapes))
        if names
    ]
    if complaints:
        raise CheckpointError(f"the file is not the expected {what}. " + "; ".join(complaints))


def some_names(names: Sequence[str]) -> str:
    """The first few of names, and how many there are."""
    hidden = len(names) - _SHOWN_NAMES
    more = f" and {hidden} more ({len(names)} in all)" if hidden > 0 else ""
    return f"{', '.join(names[:_SHOWN_NAMES])}{more}"
