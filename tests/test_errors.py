"""Names that were nearly right."""

from lexiseg.errors import did_you_mean, near_name


def test_what_was_meant():
    known = ("scales", "strength", "sc-clip")
    assert did_you_mean("strenght", known) == "; did you mean strength?"
    assert did_you_mean("xyz", known) == ""
    assert near_name("SC_CLIPP", known) == "sc-clip"
