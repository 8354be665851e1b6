"""What the command line cannot take is answered in one sentence: what was meant, and where to read on."""

import argparse

import pytest

from lexiseg.cli.main import main
from lexiseg.command_parser import CommandParser
from lexiseg.errors import ConfigError

REFUSED = [
    ("predct photo.jpg", "no command 'predct'; did you mean predict? See `lexiseg --help`"),
    ("zzzzz", "no command 'zzzzz'; there are train, eval, "),
    ("", "`lexiseg` needs a command: one of train, eval, "),
    ("data chek", "no command 'chek'; did you mean check? See `lexiseg data --help`"),
    ("--verson", "no flag --verson; did you mean --version? See `lexiseg --help`"),
    ("predict a.jpg --clases dog", "no flag --clases; did you mean --classes? See `lexiseg predict --help`"),
    ("predict a.jpg --classes dog --clases=x", "no flag --clases; did you mean --classes?"),
    ("predict a.jpg --classes dog -q x", "no flag -q; see `lexiseg predict --help`"),
    ("predict", "`lexiseg predict` needs PHOTO; see `lexiseg predict --help`"),
    ("predict a.jpg", "`lexiseg predict` needs one of --classes, --classes-file; see"),
    ("predict a.jpg --classes", "--classes: expected a value; see"),
    ("predict a.jpg --classes a --classes-file b", "--classes-file: cannot stand beside --classes; see"),
    ("predict a.jpg --classes a --threshold high", "--threshold high: expected a number; see"),
    ("demo --seeds two", "--seeds two: expected a whole number; see"),
    ("demo more", "more: `lexiseg demo` takes no such argument; see `lexiseg demo --help`"),
    ("export a.ckpt --to onx --out b", "--to onx: expected one of published, folder, onnx, torch; did you mean onnx?"),
    ("export", "`lexiseg export` needs CKPT, --to, --out; see"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "told"), REFUSED)
def test_refusals_are_one_sentence(line, told, capsys):
    assert main(line.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"lexiseg: {told}")
    assert printed.err.count("\n") == 1
    assert "--help`" in printed.err


def parser():
    made = CommandParser(prog="x")
    made.add_argument("photo")
    made.add_argument("--size", type=int)
    made.add_argument("--to", choices=("a", "b"))
    return made


def test_what_is_right_is_taken():
    assert parser().parse_args(["a b.jpg", "--si", "-3", "--to=b"]) == argparse.Namespace(
        photo="a b.jpg", size=-3, to="b"
    )
    assert parser().parse_args(["--", "--photo"]).photo == "--photo"
    assert parser().parse_args(["-2"]).photo == "-2"


@pytest.mark.parametrize("line", [["a", "--sze", "3"], ["a", "b"], ["a", "--to", "c"], []])
def test_it_refuses_by_our_exception(line):
    with pytest.raises(ConfigError, match="`x --help`"):
        parser().parse_args(line)
