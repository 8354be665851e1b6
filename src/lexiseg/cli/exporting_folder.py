"""``lexiseg export --to folder``: a trained model as one folder that needs nothing else, and onto the hub."""

import argparse
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lexiseg.checkpoints.model_facts import ModelFacts, read_measured
from lexiseg.checkpoints.training_file import load_tensors_only
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.pretrained import PretrainedSegmenter, largest_difference


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What only a folder needs."""
    folder = parser.add_argument_group("--to folder")
    folder.add_argument(
        "--license",
        metavar="NAME",
        help="of the trained weights, for the model card (default: unknown)",
    )
    folder.add_argument("--clip-license", metavar="NAME", help="of the CLIP's weights, likewise")
    folder.add_argument(
        "--dataset",
        metavar="ORG/NAME",
        action="append",
        dest="datasets",
        help="a data set of the hub that it was trained on, for the model card; may be repeated",
    )
    folder.add_argument(
        "--without-clip",
        action="store_true",
        help="only name the CLIP, which must be one of the hub's, instead of copying it",
    )
    folder.add_argument(
        "--push", metavar="ORG/NAME", help="upload the folder to the Hugging Face hub as well"
    )


def run_folder(args: argparse.Namespace, console: Console) -> int:
    """Write the folder, compare it with the live model, push it if asked.

    Raises:
        ConfigError: Something lies at ``--out`` already.
        LexisegError: The checkpoint cannot be used, the folder not written, or the hub not reached.
    """
    out: Path = args.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is there already; choose the name of a new folder")
    loaded = Pipeline.load(args.checkpoint, clip=args.clip, device="cpu")
    facts = _facts(args, loaded)
    live = PretrainedSegmenter(replace(loaded, facts=facts), bundle_clip=not args.without_clip)
    live.save_pretrained(out, model_card_kwargs={"name": args.push or out.name})
    difference = largest_difference(live, PretrainedSegmenter.from_pretrained(out.resolve(), device="cpu"))
    scores = facts.measured.measured_by if facts.measured else "none beside the checkpoint"
    console.print(
        f"written to {escape(str(out))}; scores in its card: {scores}; largest difference of its logits from the live "
        f"model's: {difference:.1e}",
        highlight=False,
        soft_wrap=True,
    )
    if args.push:
        console.print(f"pushed: {escape(_push(live, args.push, out))}", highlight=False, soft_wrap=True)
    return 0


def _facts(args: argparse.Namespace, loaded: Pipeline) -> ModelFacts:
    """What came with the model, and over it what the flags and the records beside a checkpoint say."""
    facts = loaded.facts
    if args.checkpoint.is_file() and loaded.info is not None:
        step = load_tensors_only(args.checkpoint).get("global_step")
        facts = replace(facts, measured=read_measured(args.checkpoint, loaded.info, step))
    datasets = tuple(args.datasets) if args.datasets else None
    said = {"license": args.license, "clip_license": args.clip_license, "datasets": datasets}
    return replace(facts, **{key: value for key, value in said.items() if value is not None})


def _push(model: PretrainedSegmenter, name: str, out: Path) -> str:
    try:
        return str(model.push_to_hub(name))
    except Exception as error:  # the hub's client passes on whatever its HTTP library raises
        told = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise LexisegError(
            f"could not push to '{name}' ({told}); log in with `hf auth login` to an account that may write there. The folder "
            f"{out} is whole"
        ) from error
