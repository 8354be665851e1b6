"""Every settings dataclass refuses wrong types, choices, ranges and numbers that are none, by the same code."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from lexiseg.errors import ConfigError
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.models.cascade_settings import CascadeSettings
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings
from lexiseg.plain_settings import (
    Range,
    plain_arguments,
    require_known_keys,
    require_plain_settings,
    within,
)
from lexiseg.recipes.settings import (
    CheckpointSettings,
    ClipSource,
    TrainerSettings,
    ValidationSettings,
    known_settings,
)
from lexiseg.training.optim import OptimSettings
from lexiseg.training.self_training import SelfTrainingSettings


@dataclass(frozen=True)
class Example:
    on: bool = False
    count: int = within(3, at_least=1)
    share: float = within(0.5, above=0, at_most=1)
    kind: Literal["a", "b"] = "a"
    word: str = "x"
    free: tuple[int, ...] = ()
    pair: tuple[float, float] = within((0.5, 0.25), at_least=0, below=1)
    names: Sequence[str] | None = None
    limit: float | None = None
    place: Literal["auto"] | bool | str | Path = "auto"

    def __post_init__(self):
        require_plain_settings(self, "example")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on": 1}, "example.on: expected true or false, got 1"),
        ({"count": True}, "example.count: expected a whole number, got True"),
        ({"count": 2.0}, "example.count: expected a whole number, got 2.0"),
        ({"count": None}, "example.count: expected a whole number, got None"),
        ({"count": 0}, "example.count: expected at least 1, got 0"),
        ({"share": "0.5"}, "example.share: expected a number, got '0.5'"),
        ({"share": 0}, "example.share: expected above 0 and at most 1, got 0.0"),
        ({"share": float("nan")}, "example.share: expected a finite number, got nan"),
        ({"share": float("inf")}, "example.share: expected a finite number, got inf"),
        ({"kind": "c"}, "example.kind: expected one of a, b, got 'c'"),
        ({"kind": ["a"]}, "example.kind: expected one of a, b"),
        ({"word": 7}, "example.word: expected a word, got 7"),
        ({"free": 3}, "example.free: expected a list of whole numbers, got 3"),
        ({"free": (1, 2.5)}, "example.free: expected a list of whole numbers, got (1, 2.5)"),
        ({"free": "12"}, "example.free: expected a list of whole numbers, got '12'"),
        ({"pair": (0.5,)}, "example.pair: expected a list of 2 numbers, got (0.5,)"),
        ({"pair": (0.5, "x")}, "example.pair: expected a list of 2 numbers, got (0.5, 'x')"),
        ({"pair": (0.5, 1)}, "example.pair: expected from 0 to below 1, got 1.0"),
        ({"pair": (0.5, float("nan"))}, "example.pair: expected a finite number, got nan"),
        ({"names": "ab"}, "example.names: expected a list of words or null, got 'ab'"),
        ({"names": ["a", 1]}, "example.names: expected a list of words or null, got ['a', 1]"),
        ({"limit": "1"}, "example.limit: expected a number or null, got '1'"),
        ({"limit": True}, "example.limit: expected a number or null, got True"),
        ({"limit": float("inf")}, "example.limit: expected a finite number, got inf"),
        ({"place": 1}, "example.place: expected one of auto or true or false or a word or a path, got 1"),
    ],
)
def test_one_sentence_names_the_key(settings, message):
    with pytest.raises(ConfigError) as caught:
        Example(**settings)
    assert str(caught.value).startswith(message)


def test_stages_may_all_read_the_same_blocks():
    """Rows of table 7."""
    assert CascadeSettings(stages=[[12], [12], [12]]).stages == ((12,), (12,), (12,))
    assert CascadeSettings(stages=[[6, 7], [6, 7]]).stages == ((6, 7), (6, 7))


def test_fields_of_several_types_take_each():
    assert TrainerSettings(devices=[0, 1], precision=16, max_steps=1).devices == [0, 1]
    assert TrainerSettings(devices="auto").devices == "auto"


def test_whole_numbers_stand_for_floats_and_lists_for_tuples():
    example = Example(share=1, limit=2, pair=[0, 0.5], free=[7], names=["a"], place=Path("x"))
    assert (example.share, type(example.share)) == (1.0, float)
    assert (example.limit, type(example.limit)) == (2.0, float)
    assert (example.pair, type(example.pair[0])) == ((0.0, 0.5), float)
    assert (example.free, example.names, example.place) == ((7,), ["a"], Path("x"))
    assert Example(limit=None, names=None, place=False).place is False


@pytest.mark.parametrize("values", [None, 3, "lr", ["lr"]])
def test_settings_that_are_none(values):
    with pytest.raises(ConfigError, match="optim: expected settings by name, got"):
        known_settings(OptimSettings, values, "optim")


@pytest.mark.parametrize(
    ("kind", "inside", "outside", "spoken"),
    [
        (Range(at_least=1), (1, 2), (0.99,), "at least 1"),
        (Range(above=0, below=1), (0.01, 0.99), (0, 1), "above 0 and below 1"),
        (Range(at_least=0, at_most=1), (0, 1), (-0.1, 1.1), "from 0 to 1"),
        (Range(at_least=0, below=1), (0, 0.9), (1,), "from 0 to below 1"),
        (Range(below=3), (2,), (3,), "below 3"),
    ],
)
def test_ranges(kind, inside, outside, spoken):
    assert all(value in kind for value in inside)
    assert not any(value in kind for value in outside)
    assert str(kind) == spoken


def test_unknown_keys():
    with pytest.raises(ConfigError, match="example: no setting lost, x; there are on, count, share"):
        require_known_keys({"x": 1, "lost": 2, "on": True}, Example, "example")


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (CascadeSettings, {"aggregation_sigma": 0.0}, "model.aggregation_sigma: expected above 0"),
        (CascadeSettings, {"prompt_dropout": 1.5}, "model.prompt_dropout: expected from 0 to below 1"),
        (CascadeSettings, {"stages": "abc"}, "model.stages: expected lists of block numbers"),
        (CascadeSettings, {"stages": [["a"]]}, "model.stages: expected lists of block numbers"),
        (
            CascadeSettings,
            {"stages": [[6, 6]]},
            "model.stages: expected every block once, shallow to deep; 6 follows 6",
        ),
        (CascadeSettings, {"stages": [[8, 7]]}, "7 follows 8"),
        (CascadeSettings, {"stages": [[6, 7], [7, 8]]}, "7 follows 7"),
        (MaskLossWeights, {"dice": float("nan")}, "loss.dice: expected a finite number"),
        (OptimSettings, {"lr": float("nan")}, "optim.lr: expected a finite number"),
        (OptimSettings, {"betas": (0.9, 1.0)}, "optim.betas: expected from 0 to below 1, got 1.0"),
        (OptimSettings, {"betas": 0.9}, "optim.betas: expected a list of 2 numbers, got 0.9"),
        (PixelCLIPOptimSettings, {"betas": "ab"}, "optim.betas: expected a list of 2 numbers, got 'ab'"),
        (ClipSource, {"vision_heads": "8"}, "clip.vision_heads: expected a whole number or null, got '8'"),
        (ClipSource, {"vision_heads": 0}, "clip.vision_heads: expected at least 1, got 0"),
        (ClipSource, {"tokenizer": 3}, "clip.tokenizer: expected a word or null, got 3"),
        (OptimSettings, {"weight_decay": -1.0}, "optim.weight_decay: expected at least 0"),
        (TrainerSettings, {"max_steps": 0}, "trainer.max_steps: expected at least 1, got 0"),
        (ValidationSettings, {"every_steps": -5}, "validation.every_steps: expected at least 1, got -5"),
        (CheckpointSettings, {"every_steps": 0}, "checkpoint.every_steps: expected at least 1, got 0"),
        (
            SelfTrainingSettings,
            {"inductive_share": 1.0},
            "self_training.inductive_share: expected above 0 and below 1",
        ),
        (
            InferenceProtocol,
            {"precision": "float16"},
            "protocol.precision: expected one of float32, bfloat16",
        ),
    ],
)
def test_settings_that_trained_in_silence_or_ended_in_a_traceback(kind, settings, message):
    with pytest.raises(ConfigError) as caught:
        kind(**settings)
    assert message in str(caught.value)


class Reader:
    def __init__(
        self,
        tower: object,
        *,
        count: int = 3,
        share: float | None = None,
        pair: tuple[float, float] = (0.5, 0.25),
        kind: Literal["a", "b"] = "a",
        other: str | Path | Example = "x",
        given: Example | None = None,
    ) -> None:
        raise AssertionError("is not called")


def test_arguments_become_what_they_stand_for():
    given = {"share": 1, "pair": [1, 0.5], "other": "name", "given": None, "count": 2}
    fitted = plain_arguments(Reader, given, "reader", leave=("tower",))
    assert fitted == {"share": 1.0, "pair": (1.0, 0.5), "other": "name", "given": None, "count": 2}
    assert isinstance(fitted["share"], float)
    example = Example()
    assert plain_arguments(Reader, {"other": example, "given": example}, "reader")["given"] is example


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cuont": 3}, "reader has no setting 'cuont'; did you mean count?"),
        ({"zzz": 3}, "reader has no setting 'zzz'; its settings are count, share, pair, kind, other, given"),
        ({"tower": 3}, "reader has no setting 'tower'; "),
        ({"count": 2.5}, "reader.count: expected a whole number, got 2.5"),
        ({"share": float("nan")}, "reader.share: expected a finite number, got nan"),
        ({"pair": [1]}, "reader.pair: expected a list of 2 numbers, got [1]"),
        ({"kind": "c"}, "reader.kind: expected one of a, b, got 'c'"),
        ({"other": 5}, "reader.other: expected a word or a path, got 5"),
        ({"given": 3}, "reader.given: expected null, got 3"),
    ],
)
def test_arguments_that_do_not_fit(given, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        plain_arguments(Reader, given, "reader", leave=("tower",))
