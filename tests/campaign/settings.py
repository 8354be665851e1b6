"""Every key of every configuration with every value that it may not have, and with some that it may."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch

from campaign.case import Case, Expected
from hostile import small_checkpoint
from lexiseg.cli.composing import compose_config, plain
from lexiseg.data.mask_views import TwoViews
from lexiseg.data.strong_augmentation import StrongAugmentation
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.losses.fused import MaskLossWeights
from lexiseg.models.cascade_settings import CascadeSettings
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings, PixelCLIPSettings
from lexiseg.plain_settings import Range
from lexiseg.recipes.pixelclip import PictureSettings
from lexiseg.recipes.settings import (
    CheckpointSettings,
    ClipSource,
    SplitSettings,
    TrainerSettings,
    TrainingData,
    ValidationSettings,
)
from lexiseg.training.optim import OptimSettings
from lexiseg.training.self_training import SelfTrainingSettings

KIND = "settings"

VALUES: dict[str, Any] = {
    "word": "word",
    "-1": -1,
    "0": 0,
    "nan": math.nan,
    "inf": math.inf,
    "1e308": 1e308,
    "1000000000000000000000": 10**21,
    "null": None,
    "[]": [],
    "''": "",
    "true": True,
}
"""As typed, and what Hydra makes of it."""


@dataclass(frozen=True)
class Command:
    """A command that takes settings.

    Attributes:
        name: As typed.
        small: Overrides that make its run last a second.
        composed: Overrides that its configuration needs to be composed at all.
        groups: The dataclasses behind its groups, by the keys' beginning; the longest beginning counts.
    """

    name: str
    small: tuple[str, ...]
    composed: tuple[str, ...]
    groups: Mapping[str, type]


_SHARED = {"clip": ClipSource, "trainer": TrainerSettings, "checkpoint": CheckpointSettings}

COMMANDS = (
    Command(
        "train",
        (
            "optim.warmup_steps=2", "trainer=cpu", "trainer.max_steps=1", "data.train.image_size=[40,56]",
            "data.train.length=60", "data.batch_size=2", "data.train_transform.base=[40,56]",
            "data.train_transform.crop=[40,56]", "data.val.image_size=[40,56]", "data.val.length=1",
            "model.stages=[[11],[12]]", "model.prompt_length=2", "model.decoder_layers=1", "validation.panels=0",
            "output_dir=out",
        ),
        (),
        {
            **_SHARED, "split": SplitSettings, "loss": MaskLossWeights, "optim": OptimSettings, "model": CascadeSettings,
            "protocol": InferenceProtocol, "self_training": SelfTrainingSettings, "validation": ValidationSettings,
            "data": TrainingData,
        },
    ),
    Command(
        "pixelclip",
        (
            "experiment=pixelclip/toy", "trainer.max_steps=1", "mask_data.train.dataset.length=4", "mask_data.batch_size=2",
            "pictures.images=2", "pictures.every_steps=0", "model.decoder_channels=32", "model.clusters=3", "output_dir=out",
        ),
        ("experiment=pixelclip/toy",),
        {
            **_SHARED, "optim": PixelCLIPOptimSettings, "model": PixelCLIPSettings, "pictures": PictureSettings,
            "mask_data.views": TwoViews, "mask_data.views.strong": StrongAugmentation,
        },
    ),
    Command(
        "eval",
        ("checkpoint=good.ckpt", "data.val.length=1", "data.val.image_size=[40,56]", "output=out/eval.json", "limit=1"),
        ("checkpoint=good.ckpt",),
        {"split": SplitSettings},
    ),
    Command(
        "benchmark",
        ("clip=toy", "methods=[clip]", "toy.data.length=1", "toy.data.image_size=[40,56]", "output=out"),
        ("clip=toy",),
        {"clip": ClipSource},
    ),
    Command(
        "sweep",
        (
            "ablation=table8", "rows=[sum]", "seeds=[0]", "optim.warmup_steps=2", "trainer=cpu", "trainer.max_steps=1",
            "data.train.image_size=[40,56]", "data.train.length=60", "data.batch_size=2", "data.train_transform.base=[40,56]",
            "data.train_transform.crop=[40,56]", "data.val.image_size=[40,56]", "data.val.length=1",
            "model.stages=[[11],[12]]", "model.prompt_length=2", "model.decoder_layers=1", "validation.panels=0", "output=out",
        ),
        ("ablation=table8",),
        {},
    ),
)  # fmt: skip

_UNREAD = {
    "eval": (
        "data.train",
        "data.batch_size",
        "data.val_batch_size",
        "data.num_workers",
        "data.seed",
        "data.cache_dir",
    ),
    "sweep": ("row", "seed"),
}
"""Keys that a command's configuration has and the command does not read: training's data in eval, a sweep's own counters."""

_OTHERS: dict[str, tuple[Any, Range]] = {
    "seed": (int, Range(at_least=0, below=2**32)),
    "data.seed": (int | None, Range(at_least=0)),
    "data.train.length": (int, Range(at_least=1)),
    "data.val.length": (int, Range(at_least=1)),
    "data.train.seed": (int, Range(at_least=0)),
    "data.val.seed": (int, Range(at_least=0)),
    "data.train_transform.flip": (float, Range(at_least=0, at_most=1)),
    "data.train_transform.cat_max_ratio": (float, Range(at_least=0, at_most=1)),
    "mask_data.batch_size": (int, Range(at_least=1)),
    "mask_data.num_workers": (int, Range(at_least=0)),
    "mask_data.seed": (int, Range(at_least=0)),
    "mask_data.train.dataset.length": (int, Range(at_least=1)),
    "segments": (Literal["panoptic", "instances"] | None, Range()),
    "images_per_batch": (int, Range(at_least=1)),
    "limit": (int | None, Range(at_least=1)),
    "compile": (bool, Range()),
    "masks": (str | None, Range()),
    "name": (str, Range()),
    "output_dir": (str, Range()),
    "device": (str, Range()),
    "output": (str | None, Range()),
    "processes": (int, Range()),
}
"""Keys that stand in no dataclass of settings."""


def cases() -> Iterator[Case]:
    """Keys in the order of the files, each with every value."""
    for command in COMMANDS:
        yield Case(
            KIND, f"{command.name} as it is", _prepared(command, []), Expected.ANSWERED, writes=("out",)
        )
        for key, default in _leaves(_composed(command.name)):
            for typed, value in VALUES.items():
                if value == default and type(value) is type(default):
                    continue
                yield _of_key(command, key, typed, value)
    yield from _contradictions()


def _of_key(command: Command, key: str, typed: str, value: Any) -> Case:
    possible = may_be(command, key, value)
    return Case(
        KIND,
        f"{command.name} {key}={typed}",
        _prepared(command, [f"{key}={typed}"]),
        Expected.EITHER if possible else Expected.REFUSED,
        writes=("out", "runs", "word", "-1", "0", "True"),
        seconds=90,
    )


_CONTRADICTIONS: dict[str, tuple[str, ...]] = {
    "train": (
        "protocol.stride=24", "protocol.window=24 protocol.stride=48", "protocol.short_side=9000",
        "protocol.activation=linear", "protocol.activation=linear protocol.seen_penalty=0 protocol.views={scales:[]}",
        "split.unseen=[]", "split.unseen=[zebra]", "split.unseen=[red triangle,red triangle]", "split.unseen=red",
        "split.seen=[red square]", "split.setting=guessed", "split.unseen_pixels=excluded",
        "model.stages=[[11],[11,12,13]]", "model.stages=[[-1]]", "model.stages=[[]]", "model.stages=[[12],[x]]",
        "model.decoder_heads=7", "model.name=no_such", "model.aggregation_form=paper", "model.more=1",
        "optim.betas=[0.9]", "optim.betas=[1.0,0.999]", "optim.betas=[-0.1,0.9]", "optim.betas=[a,b]", "optim.betas=[nan,0.9]",
        "trainer.precision=17", "trainer.accelerator=abacus", "trainer.devices=[0,0]", "trainer.strategy=none_such",
        "+trainer.max_step=3", "+trainer.logger=false", "+trainer.callbacks=[]", "+trainer.val_check_interval=5",
        "self_training=published trainer.max_steps=1", "self_training=published split.setting=supervised",
        "resume=gone.ckpt", "init_from=gone.ckpt", "resume=.", "init_from=.", "backbone_weights=gone.pth",
        "model=open_seg backbone_weights=gone.pth", "model=open_seg backbone_weights=.", "templates=no_such_set",
        "templates=[no braces]", "templates=[]",
        "name=../up", "name=/away", "name=.", "name='a b'", "checkpoint.monitor=val/nothing",
        "data.train.image_size=[4]", "data.train.image_size=[0,40]", "data.train.image_size=[40,56,3]",
        "data.train_transform.ratio=[2,1]", "data.train_transform.ratio=[0,1]", "data.train_transform.crop=[0,0]",
        "data.train_transform.base=[1e9,1e9]", "data.train._target_=os.getcwd", "data.train._target_=nowhere.at.all",
        "data.train._target_=''", "data.val=null", "data=null", "model=null", "optim=null", "clip=no_such", "data=no_such",
        "experiment=no_such", "nothing=1", "optim.nothing=1", "+optim.nothing=1", "seed", "=3", "seed=", "seed=1=2",
        "optim.lr=[1", "optim.lr=${nothing}", "optim.lr=${oc.env:NOTHING}", "~optim.lr", "++optim.lr=word", "optim.lr=1,2",
        "data.num_workers=100000", "trainer.devices=100000", "data.batch_size=1000000", "model.prompt_length=1000000",
        "ablation=table8", "ablation=table8/no_such", "ablation=no_such/row", "ablation=",
    ),
    "pixelclip": (
        "images=nowhere", "masks=nowhere", "mask_data=folder images=nowhere", "mask_data=folder images=.",
        "mask_data=folder images=. masks=superpixels", "model.decoder_channels=33", "model.tuned=everything",
        "model.prompt_template=none", "model.prompt_template='{} {}'", "model.prompt_vocabulary=[xyzzy]", "model.image_size=47",
        "model.clusters=1000000", "pictures.words=no_such_list", "pictures.words=[]", "pictures.words=.",
        "mask_data.views.crop=100000", "mask_data.views.strong.blur_sigma=[1]", "mask_data.views.strong.blur_sigma=[2,1]",
        "mask_data.views.strong.hole_side=[0,2]", "optim.betas=[0.9,1.5]", "ablation=pixelclip_clusters/no_such",
    ),
    "eval": (
        "checkpoint=gone.ckpt", "checkpoint=.", "checkpoint=''", "data=voc", "data=folder", "split=all", "split=voc_15_5",
        "protocol.window=1", "protocol.nothing=1", "protocol.window=word", "protocol.views=word", "protocol.views={scales:[0]}",
        "protocol.views={scales:[1e9]}", "protocol.views={flip:up}", "protocol.views={scales:[nan]}",
        "protocol.views={uncertain_above:word}", "protocol.max_windows=1 protocol.window=16",
        "clip=gone", "device=abacus", "device=cuda:99", "output=.", "output=good.ckpt/eval.json", "templates=[x]",
        "masks=typo", "masks=.", "masks=good.ckpt", "masks=[superpixels]", "masks=ground_truth protocol.area_threshold=2",
        "segments=panoptic", "segments=boxes", "segments=[panoptic]", "stuff=[sand]", "stuff=sand segments=panoptic",
        "stuff=[no_such] segments=instances", "masks=ground_truth segments=panoptic",
    ),
    "benchmark": (
        "methods=[]", "methods=no_such", "methods=[{label:x}]", "methods=[{name:tg-clip,strength:word}]",
        "methods=[{name:tg-clip,nothing:1}]", "methods=[{name:clip,clip:1}]", "methods={name:clip}", "methods=[clip,clip]",
        "benchmarks=[]", "benchmarks=[no_such]", "benchmarks=[voc21]", "toy.nothing=1", "toy.data.length=0",
        "toy.protocol.window=word", "toy.methods={clip:{nothing:1}}", "toy.words=no_such", "protocol.window=-1",
        "protocol.nothing=2", "templates=no_such", "limit=0.5", "output=good.ckpt",
        "masks=typo", "masks=.", "masks=good.ckpt", "checkpoints=[good.ckpt,good.ckpt]", "checkpoints=[gone.ckpt]",
        "checkpoints=[{label:x}]", "checkpoints=[{checkpoint:good.ckpt,nothing:1}]", "checkpoints={checkpoint:good.ckpt}",
        "checkpoints=[{checkpoint:good.ckpt,clip:gone}]", "methods=[] checkpoints=[good.ckpt]", "checkpoints=[.]",
        "ablation=table8", "ablation=no_such", "ablation=pamr rows=[no_such]", "ablation=pamr methods=[clip]", "rows=[sclip]",
    ),
    "sweep": (
        "rows=[]", "rows=[no_such]", "seeds=[]", "seeds=[0,0]", "seeds=[-1]", "seeds=[1.5]", "seeds=x", "ablation=no_such",
        "optim.lr=-1", "hydra/launcher=no_such", "processes=-7",
        "ablation=pamr", "score.limit=3", "score.nothing=1",
    ),
}  # fmt: skip


def _contradictions() -> Iterator[Case]:
    for command in COMMANDS:
        for typed in _CONTRADICTIONS[command.name]:
            # An override with a blank in its value is one word of the shell.
            given = typed.split(" ") if "=" in typed.partition(" ")[2] and "'" not in typed else [typed]
            yield Case(
                KIND,
                f"{command.name} {typed}",
                _prepared(command, given),
                Expected.EITHER,
                writes=("out", "runs"),
                seconds=90,
            )


def _prepared(command: Command, more: Sequence[str]) -> Any:
    def prepare() -> list[str]:
        _one_step_only()
        if command.name in ("eval", "benchmark"):
            torch.save(small_checkpoint(), "good.ckpt")
        given = [key.lstrip("+~").partition("=")[0] for key in more]
        kept = [small for small in command.small if small.partition("=")[0] not in given]
        return [command.name, *kept, *more]

    return prepare


def _one_step_only() -> None:
    """However many steps a run is told to take, this process takes one."""
    import pytorch_lightning as pl

    original = pl.Trainer.fit

    def fit(self: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        loop = self.fit_loop.epoch_loop
        loop.max_steps = min(loop.max_steps, 1)
        original(self, *args, **kwargs)

    pl.Trainer.fit = fit  # type: ignore[method-assign]


@cache
def _composed_once(name: str) -> dict[str, Any]:
    command = next(one for one in COMMANDS if one.name == name)
    return dict(plain(compose_config(name, list(command.composed))))


def _composed(name: str) -> dict[str, Any]:
    return copy.deepcopy(_composed_once(name))


def _leaves(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(config, dict) and config:
        for key, value in config.items():
            yield from _leaves(value, (*path, str(key)))
    else:
        yield ".".join(path), config


def may_be(command: Command, key: str, value: Any) -> bool:
    """Whether a key's declaration allows a value; where nothing declares it, anything may be."""
    if key.startswith(_UNREAD.get(command.name, ())) and key != "seeds":
        return True
    if key.endswith("_target_"):
        return False
    if key in _OTHERS:
        kind, allowed = _OTHERS[key]
        return _fits(value, kind) and (not _is_number(value) or (math.isfinite(value) and value in allowed))
    group = max((g for g in command.groups if key.startswith(f"{g}.")), key=len, default=None)
    if group is None:
        return True
    settings, name = command.groups[group], key.removeprefix(f"{group}.")
    item = next((item for item in fields(settings) if item.name == name), None)
    if item is None:
        return True
    if not _fits(value, get_type_hints(settings)[name]):
        return False
    allowed = item.metadata.get("range")
    return not _is_number(value) or (math.isfinite(value) and (allowed is None or value in allowed))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is type(None) or hint is None:
        return value is None
    if hint is float:
        return _is_number(value)
    if hint in (bool, int, str):
        return type(value) is hint
    if origin in (list, tuple) or (origin is not None and issubclass(origin, Sequence)):
        return isinstance(value, list)
    return True
