"""Hugging Face folders and hub names: what they say of a CLIP, its weights with every key accounted for, and back."""

import copy
import json
import math
import pickle
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from safetensors.torch import save_file

from lexiseg.errors import CheckpointError, ConfigError, LexisegError, UnavailableError
from lexiseg.hub import SINCE, float32, quiet, tell_gated
from lexiseg.keys import some_names
from lexiseg.storage import write_atomically, write_json, write_text
from lexiseg.types import Color

if TYPE_CHECKING:
    from lexiseg.clip.model import FrozenCLIP

KNOWN_WORDS = "known_words.txt"
"""In a Hugging Face folder: the words that a small CLIP has ever read."""

_PREPARATION = "preprocessor_config.json"
_PROCESSOR = "processor_config.json"
"""Where newer folders keep the same, under ``image_processor``."""

_BICUBIC = 3

T = TypeVar("T")


def read_settings(location: str) -> Mapping[str, Any]:
    """``config.json`` of a folder or hub name.

    Raises:
        LexisegError: There is none to be had, or it is no JSON object.
    """
    from transformers import PretrainedConfig

    values = asking_hub(lambda: PretrainedConfig.get_config_dict(location)[0], location, what="CLIP")
    if not isinstance(values, Mapping):
        raise CheckpointError(
            f"{location}: its config.json holds a {type(values).__name__}; expected a JSON object"
        )
    return values


def read_preparation(location: str) -> Mapping[str, Any] | None:
    """What a folder or hub name says of how photographs are prepared; None where it says nothing.

    Raises:
        CheckpointError: It says it in a file that is no JSON object.
    """
    own = _json_beside(location, _PREPARATION)
    return own if own is not None else (_json_beside(location, _PROCESSOR) or {}).get("image_processor")


def colors_of(preparation: Mapping[str, Any] | None, default: tuple[Color, Color]) -> tuple[Color, Color]:
    """Mean and standard deviation of RGB in [0, 1] that a preparation normalises by; ``default`` where it has none.

    Raises:
        CheckpointError: They are not three numbers each, or a deviation is not above 0.
    """
    preparation = preparation or {}
    if preparation.get("do_normalize") is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean, std = (preparation.get(f"image_{name}") for name in ("mean", "std"))
    if mean is None or std is None:
        return default
    if not _are_three(mean) or not _are_three(std) or not min(std) > 0:
        raise CheckpointError(
            f"the CLIP's {_PREPARATION}: expected three means and three deviations above 0, got {mean} and {std}"
        )
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _are_three(numbers: object) -> bool:
    return (
        isinstance(numbers, list | tuple)
        and len(numbers) == 3
        and all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
    )


def load_model(class_name: str, location: str, *, what: str) -> Any:
    """A model of transformers in float32, no key missing, superfluous or of another shape.

    Args:
        class_name: Of the class whose ``from_pretrained`` is asked.
        location: Folder or hub name.
        what: What messages call it.

    Raises:
        ConfigError: The installed transformers is too old to have that class.
        LexisegError: Nothing can be had there.
        CheckpointError: Damaged, unsafe, or other weights than its configuration describes.
    """
    import transformers

    model_class = getattr(transformers, class_name, None)
    if model_class is None:
        raise ConfigError(
            f"{location} needs transformers' {class_name}, which version {transformers.__version__} does not have; "
            f"update transformers{SINCE.get(class_name, '')}"
        )
    with quiet():  # the account of keys below is ours, and stricter
        model, report = asking_hub(
            lambda: model_class.from_pretrained(location, output_loading_info=True, **float32()),
            location,
            what=what,
        )
    _check_report(location, report, what)
    return model.eval()


def asking_hub(ask: Callable[[], T], location: str, *, what: str) -> T:
    """What ``ask`` gets from a folder or the hub, with failures told in our words.

    Raises:
        LexisegError: Nothing can be had there; the message names the choices.
        CheckpointError: A damaged, unsafe or foreign folder.
    """
    try:
        with _cache_alone_if_offline(location):
            return ask()
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{location}: refused. Its weights ask to run or build something that no model needs, or are damaged; nothing "
            "was run. Give a folder with model.safetensors"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        if Path(location).is_dir():
            raise _unusable(location, what, error) from error
        gated = tell_gated(location, error)
        if gated:
            raise LexisegError(gated) from error
        choice = "; or try clip=toy, a tiny CLIP that ships with lexiseg and knows only its toy world"
        raise UnavailableError(
            f"the {what} '{location}' is neither a file, nor a folder, nor to be had from the Hugging Face hub "
            f"({_first_line(error)}). Choose: go online once (the hub keeps a copy) or "
            + (
                f"point clip=PATH (--clip PATH where a command has flags) at local weights{choice}"
                if what == "CLIP"
                else "give the folder of local weights"
            )
        ) from error
    except Exception as error:
        if not Path(location).is_dir():
            raise
        # Whatever trips over a damaged folder, readers of weights and of configurations among it, the folder is to be mended.
        raise _unusable(location, what, error) from error


def _unusable(location: str, what: str, error: Exception) -> CheckpointError:
    return CheckpointError(f"{location}: not a usable Hugging Face {what} folder ({_first_line(error)})")


@contextmanager
def _cache_alone_if_offline(location: str) -> Iterator[None]:
    """Let the hub's client look into its cache alone where the hub's name is unknown: its retries take half a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or Path(location).is_dir() or getproxies() or _resolves(constants.ENDPOINT):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False


def _resolves(address: str) -> bool:
    try:
        socket.getaddrinfo(urlsplit(address).hostname, None)
    except OSError:
        return False
    return True


def write_folder(clip: "FrozenCLIP", folder: Path) -> None:
    """Write a CLIP of transformers: both towers, the tokenizer, and how a photograph is prepared.

    Raises:
        LexisegError: The CLIP has no tokenizer, or the folder cannot be written to.
    """
    text = clip.require_text()
    weights = {**clip.tower.weights(), **text.weights(), **clip.scalars}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    write_atomically(
        folder / "model.safetensors", lambda part: save_file(tensors, part, metadata={"format": "pt"})
    )
    config = copy.deepcopy(clip.config)
    config.architectures = [clip.family.model_class]
    write_text(config.to_json_string(), folder / "config.json")
    preparation = clip.preparation or _clip_preparation(
        clip.tower.image_size, clip.tower.mean, clip.tower.std
    )
    write_json(preparation, folder / _PREPARATION)
    text.tokenizer.save(folder, context_length=text.context_length)
    if clip.known_words is not None:
        write_text("\n".join(sorted(clip.known_words)) + "\n", folder / KNOWN_WORDS)


def _clip_preparation(side: int, mean: Color, std: Color) -> Mapping[str, Any]:
    """CLIP's own preprocessing in transformers' words, for weights that came without any."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }


def _check_report(location: str, report: Mapping[str, Any], what: str) -> None:
    problems = {
        kind: sorted(str(key) for key in report.get(f"{kind}_keys", ()) if "position_ids" not in str(key))
        for kind in ("missing", "unexpected", "mismatched")
    }
    told = "; ".join(f"{kind}: {some_names(keys)}" for kind, keys in problems.items() if keys)
    if told:
        raise CheckpointError(
            f"{location}: the weights are not the {what} that its config.json describes. {told}"
        )


def _json_beside(location: str, name: str) -> Any:
    """A small file of a folder or hub name; None where there is none to be had."""
    from transformers.utils import cached_file

    try:
        path = cached_file(location, name, _raise_exceptions_for_missing_entries=False)
    except OSError:  # offline, and never fetched
        return None
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: expected a JSON object ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
