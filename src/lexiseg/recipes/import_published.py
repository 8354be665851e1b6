"""A released checkpoint as one of ours."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lexiseg.checkpoints.published_checkpoint import (
    SIDECAR_SUFFIX,
    Imported,
    import_published,
    read_published,
)
from lexiseg.checkpoints.published_system import PublishedSystem, import_system, system_of
from lexiseg.checkpoints.training_file import CHECKPOINT_KEY, CheckpointInfo
from lexiseg.clip.loading import TOY_CLIP, load_clip
from lexiseg.clip.templates import resolve_templates
from lexiseg.data.class_files import Words, read_class_file
from lexiseg.data.splits import make_split
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.inference.protocol import PUBLISHED, InferenceProtocol, suited
from lexiseg.storage import is_same_file, require_file_place, write_atomically
from lexiseg.types import ClassSplit, Setting

_log = logging.getLogger(__name__)

CLIP_SUFFIX = ".clip.safetensors"
"""Beside the checkpoint: the CLIP that was in the file."""


@dataclass(frozen=True)
class PublishedImport:
    """A released file, and what it does not say of itself.

    Attributes:
        file: The released checkpoint.
        clip: What :func:`~lexiseg.clip.loading.load_clip` takes: the CLIP it was trained on. Without a source: the one in
            the file, which is then written beside the checkpoint.
        templates: Prompt templates it was trained with; None for the release's.
        protocol: How it is to be used; None for the release's.
        split: Settings of :func:`~lexiseg.data.splits.make_split` over its classes; None where nobody knows them.
        classes_file: Class names, one a line with its synonyms; None for the file's own.
        transductive: It was trained with self-training, so no class bears a penalty.
        decoder_heads: Of its decoders.
        out: The checkpoint to write; None for beside the file.
    """

    file: Path
    clip: Mapping[str, Any]
    templates: tuple[str, ...] | None = None
    protocol: InferenceProtocol | None = None
    split: Mapping[str, Any] | None = None
    classes_file: Path | None = None
    transductive: bool = False
    decoder_heads: int = 8
    out: Path | None = None


@dataclass(frozen=True)
class ImportedFile:
    """What was read and written.

    Attributes:
        content: Of the released file.
        checkpoint: Ours.
        sidecar: What the file holds and lexiseg does not use.
        clip: The CLIP that was in the file, where none was given.
    """

    content: Imported
    checkpoint: Path
    sidecar: Path
    clip: Path | None = None


def import_published_file(release: PublishedImport) -> ImportedFile:
    """Read a release, check every key and its CLIP, and write a checkpoint with a side-car.

    Raises:
        ConfigError: The output is the file itself, or a split without class names.
        LexisegError: The file or the CLIP cannot be read, or they do not belong together.
    """
    out = release.out or release.file.with_suffix(".ckpt")
    if is_same_file(out, release.file):
        read_published(release.file)  # a checkpoint of ours bears such a name: no other would make it right
        raise ConfigError(
            f"--out {out} is the file to be read; choose another name, for example {out.stem}.ckpt"
        )
    require_file_place(out, "--out")
    published, meta = read_published(release.file)
    system = system_of(published)
    how, inside = dict(release.clip), {} if system is None else _clip_inside(system, published, release.file)
    if inside and how.get("source") is not None:
        raise ConfigError(
            f"{release.file} brings the CLIP along that it was trained on; leave --clip out, and give --tokenizer"
        )
    contained = out.with_name(out.name + CLIP_SUFFIX) if inside else None
    if contained is None and how.get("source") is None:
        raise ConfigError(
            f"{release.file} does not bring its whole CLIP along; say with --clip which it was trained on"
        )
    if how.get("tokenizer"):
        how["tokenizer"] = _lasting(how["tokenizer"])
    with (
        TemporaryDirectory() as folder
    ):  # nothing is written beside the checkpoint before every key has been checked
        if contained is not None:
            how["source"] = Path(folder) / contained.name
            _write_clip(inside, how["source"])
        clip = load_clip(**how)
    if system is None:
        imported = import_published(release.file, clip.vision, decoder_heads=release.decoder_heads)
    else:
        try:
            imported = import_system(system, published, meta, clip.tower)
        except CheckpointError as error:
            raise CheckpointError(f"{release.file}: {error}") from error
    if contained is not None:
        _write_clip(inside, contained)
    how["source"] = _lasting(contained or how["source"])
    if system is not None and not _split(release, imported.classes).classes:
        _log.warning(
            "%s does not name its classes, so all words count as new to the model; give --classes-file",
            release.file,
        )
    info = _describe(release, imported, how | {"fingerprint": clip.fingerprint}, system)
    checkpoint = {CHECKPOINT_KEY: info.to_dict(), "state_dict": imported.state_dict}
    write_atomically(out, lambda part: torch.save(checkpoint, part))
    sidecar = out.with_name(out.name + SIDECAR_SUFFIX)
    write_atomically(sidecar, lambda part: part.write_bytes(imported.sidecar()))
    return ImportedFile(imported, out, sidecar, contained)


def _clip_inside(system: PublishedSystem, published: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The CLIP in a released file, empty where it has none.

    Raises:
        CheckpointError: Its names are not those of the release.
    """
    try:
        return dict(system.clip(published))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: no file of {system.title} as released ({error!r})") from error


def _write_clip(state: Mapping[str, Tensor], path: Path) -> None:
    """The CLIP inside a released file as a file of its own."""
    tensors = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    write_atomically(path, lambda part: save_file(tensors, part))


def _describe(
    release: PublishedImport, imported: Imported, clip: Mapping[str, Any], system: PublishedSystem | None
) -> CheckpointInfo:
    own = PUBLISHED["cascade" if system is None else system.protocol]
    protocol = suited(
        release.protocol or own, own.activation
    )  # scores stay scores, whichever sizes were chosen
    if release.transductive:
        protocol = replace(protocol, seen_penalty=0.0)
    templates = resolve_templates("single" if system is None else system.templates)
    groups = _groups(release, imported.classes)
    return CheckpointInfo(
        model=imported.settings,
        clip=dict(clip),
        templates=release.templates or templates,
        split=_split(release, imported.classes),
        protocol=protocol.to_dict(),
        synonyms={name: tuple(others) for name, *others in groups if others},
    )


def _groups(release: PublishedImport, classes: tuple[str, ...]) -> Words:
    """Per class its name and then its synonyms: the class file's, else the released file's own names."""
    return (
        read_class_file(release.classes_file) if release.classes_file else tuple((name,) for name in classes)
    )


def _split(release: PublishedImport, classes: tuple[str, ...]) -> ClassSplit:
    setting: Setting = "transductive" if release.transductive else "inductive"
    classes = tuple(name for name, *_ in _groups(release, classes))
    if release.split is None:
        return ClassSplit("imported", classes, setting=setting)
    if not classes:
        raise ConfigError(
            f"{release.file} does not name its classes, so split {release.split['name']} cannot be applied; give --classes-file"
        )
    return make_split(classes, **{**release.split, "setting": setting})


def _lasting(source: str | Path) -> str:
    """A path that still holds from another folder; names stay names."""
    source = str(source)
    return str(Path(source).resolve()) if source != TOY_CLIP and Path(source).exists() else source
