"""A trained model as a program that other runtimes run: traced, written, compared."""

from dataclasses import replace
from pathlib import Path

import torch

from lexiseg.checkpoints.program_folder import (
    PROGRAM_FILES,
    ProgramCard,
    ProgramKind,
    require_packages,
    write_card,
)
from lexiseg.clip.vocabulary import Vocabulary, default_cache_dir
from lexiseg.errors import ConfigError
from lexiseg.export.onnx_program import PACKAGES, write_onnx
from lexiseg.export.parity import Parity, check_parity
from lexiseg.export.program import require_traceable, trace
from lexiseg.export.torch_program import write_torch
from lexiseg.inference.exported import OnnxProgram, TorchProgram
from lexiseg.inference.pipeline import Pipeline
from lexiseg.progress import doing
from lexiseg.recipes.export_folder import require_new
from lexiseg.storage import folder_or_nothing
from lexiseg.types import MaskModel


def export_program_folder(
    checkpoint: Path | str, out: Path, kind: ProgramKind, *, clip: str | None = None
) -> Parity:
    """Trace, write, compare with the live model; nothing stays where they differ.

    Args:
        checkpoint: As :func:`~lexiseg.inference.pipeline.Pipeline.load` takes it.
        out: A new or empty folder.
        kind: Which runtime the program is for.
        clip: Where its CLIP lies now, if the weights have moved.

    Returns:
        How far the program is from the live model at several sizes.

    Raises:
        ConfigError: A package is missing, or something lies at ``out`` already.
        LexisegError: The checkpoint cannot be used, the folder not written, or the program is not the model.
    """
    if kind == "onnx":
        require_packages(
            (*PACKAGES, "onnxruntime"), purpose="`lexiseg export --to onnx` with its parity check"
        )
    require_new(out)
    pipeline = Pipeline.load(checkpoint, clip=clip, device="cpu")
    with folder_or_nothing(out) as folder:
        return export_program(pipeline, kind, folder)


def export_program(loaded: Pipeline, kind: ProgramKind, folder: Path) -> Parity:
    """Write a program and what belongs beside it into an empty folder, and compare it with the live model.

    Args:
        loaded: A trained model on the processor.
        kind: Which runtime the program is for.
        folder: Must exist.

    Raises:
        ConfigError: A training-free reading or an exported program: neither is a model to trace. Or a model that no program
            can hold.
        LexisegError: The program is not the model, or the CLIP has no tokenizer.
    """
    model, info = loaded.model, loaded.info
    if info is None or not isinstance(model, MaskModel):
        raise ConfigError(
            "only a trained checkpoint can be exported as a program; give best.ckpt or last.ckpt of a run"
        )
    require_traceable(model)
    words = torch.empty(0, model.tower.embed_dim)
    if info.split.classes:
        # In the templates that the card names, whatever the pipeline speaks in now.
        own = Vocabulary.from_names(info.split.classes, info.templates)
        words = own.embed(loaded.clip, default_cache_dir()).vectors
    path = folder / PROGRAM_FILES[kind]
    with doing("tracing the model"):
        program = trace(model)
    with doing("writing the program"):
        write_onnx(program, path) if kind == "onnx" else write_torch(program, path)
    with doing("comparing the program with the live model"):
        run = OnnxProgram(path, "cpu") if kind == "onnx" else TorchProgram(path, torch.device("cpu"))
        parity = check_parity(model, run, words)
    parity.require()
    mean, std = (tuple(tensor.flatten().tolist()) for tensor in model.normalization)
    card = ProgramCard(
        info=replace(info, protocol={**info.protocol, "precision": "float32"}),
        kind=kind,
        patch_size=model.patch_size,
        smallest_side=model.smallest_grid * model.patch_size,
        embed_dim=model.tower.embed_dim,
        mean=mean,
        std=std,
        parity=parity.to_dict(),
    )
    write_card(folder, card, words)
    return parity
