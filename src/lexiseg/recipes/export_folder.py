"""A trained model as one folder that needs nothing else, and onto the hub."""

from dataclasses import dataclass, replace
from pathlib import Path

from lexiseg.checkpoints.model_facts import ModelFacts, read_measured
from lexiseg.checkpoints.run_checkpoint import checkpoint_of
from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.pretrained import PretrainedSegmenter, largest_difference
from lexiseg.progress import doing
from lexiseg.storage import require_folder, writing


@dataclass(frozen=True)
class FolderExport:
    """What to write, and where.

    Attributes:
        checkpoint: As :func:`~lexiseg.inference.pipeline.Pipeline.load` takes it.
        out: A new or empty folder.
        clip: Where its CLIP lies now, if the weights have moved.
        license: Of the trained weights, for the model card; None for what came with the model.
        clip_license: Of the CLIP's weights, likewise.
        bundle_clip: Copy the CLIP into the folder; otherwise it is only named, and must be one of the hub's.
        name: What the card calls the model; None for the folder's name.
        datasets: Of the hub, which it was trained on, for the card; None for what came with the model.
    """

    checkpoint: Path
    out: Path
    clip: str | None = None
    license: str | None = None
    clip_license: str | None = None
    bundle_clip: bool = True
    name: str | None = None
    datasets: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ExportedFolder:
    """What was written.

    Attributes:
        model: The live model, ready to be pushed.
        measured_by: What the scores in the card were measured by; None where none lie beside the checkpoint.
        difference: Largest difference of the folder's logits from the live model's.
    """

    model: PretrainedSegmenter
    measured_by: str | None
    difference: float


def export_folder(export: FolderExport) -> ExportedFolder:
    """Write the folder and compare it with the live model.

    Raises:
        ConfigError: Something lies at ``out`` already.
        LexisegError: The checkpoint cannot be used, or the folder not written.
    """
    require_new(export.out)
    pipeline = Pipeline.load(export.checkpoint, clip=export.clip, device="cpu")
    facts = _facts(export, pipeline)
    live = PretrainedSegmenter(replace(pipeline, facts=facts), bundle_clip=export.bundle_clip)
    with doing("writing the folder"):
        live.save_pretrained(export.out, model_card_kwargs={"name": export.name or export.out.name})
    measured = facts.measured.measured_by if facts.measured else None
    with doing("comparing the folder with the live model"):
        written = PretrainedSegmenter.from_pretrained(export.out.resolve(), device="cpu")
        return ExportedFolder(live, measured, largest_difference(live, written))


def push(model: PretrainedSegmenter, name: str, folder: Path) -> str:
    """Upload a model to the Hugging Face hub.

    Args:
        model: As :func:`export_folder` gives it.
        name: ``ORG/NAME``.
        folder: Where it was written, for the message where the upload fails.

    Returns:
        Its address there.

    Raises:
        LexisegError: The hub was not reached, or may not be written to.
    """
    try:
        with doing(f"pushing to {name}"):
            return str(model.push_to_hub(name))
    except Exception as error:  # the hub's client passes on whatever its HTTP library raises
        told = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise LexisegError(
            f"could not push to '{name}' ({told}); log in with `hf auth login` to an account that may write there. The folder "
            f"{folder} is whole"
        ) from error


def require_new(out: Path) -> None:
    """Nothing is written over, nor found only after the work to take nothing.

    Raises:
        ConfigError: Something lies there.
        LexisegError: Nothing can be written there.
    """
    with writing(out):
        there = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if there:
        raise ConfigError(f"--out {out} is there already; choose the name of a new folder")
    require_folder(out, "--out")


def _facts(export: FolderExport, pipeline: Pipeline) -> ModelFacts:
    """What came with the model, and over it what the caller and the records beside a checkpoint say."""
    facts = pipeline.facts
    checkpoint = Path(checkpoint_of(export.checkpoint))
    if checkpoint.is_file() and pipeline.info is not None:
        step = load_tensors_only(checkpoint).get("global_step")
        facts = replace(facts, measured=read_measured(checkpoint, pipeline.info, step))
    return replace(
        facts,
        license=facts.license if export.license is None else export.license,
        clip_license=facts.clip_license if export.clip_license is None else export.clip_license,
        datasets=facts.datasets if export.datasets is None else export.datasets,
    )
