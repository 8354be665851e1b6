"""A frozen CLIP as an ordinary Hugging Face folder, which transformers and lexiseg load alike."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPConfig

from lexiseg.clip.loading import KNOWN_WORDS, FrozenCLIP
from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.storage import write_atomically, write_json, write_text

_BICUBIC = 3


def save_clip(clip: FrozenCLIP, folder: Path | str) -> None:
    """Write both towers, the tokenizer and how a photograph is prepared; :func:`load_clip` gives the same fingerprint.

    Args:
        clip: With its text tower.
        folder: Made if it is not there; files of the same names are replaced.

    Raises:
        LexisegError: The CLIP has no tokenizer, or the folder cannot be written to.
    """
    folder = Path(folder)
    tower = clip.require_text()
    tensors = _state(clip)
    write_atomically(
        folder / "model.safetensors", lambda part: save_file(tensors, part, metadata={"format": "pt"})
    )
    config = CLIPConfig.from_dict(clip.config.to_dict())
    config.architectures = ["CLIPModel"]
    write_text(config.to_json_string(), folder / "config.json")
    write_json(_preparation(clip.vision.image_size), folder / "preprocessor_config.json")
    tower.tokenizer.save(folder, context_length=tower.context_length)
    if clip.known_words is not None:
        write_text("\n".join(sorted(clip.known_words)) + "\n", folder / KNOWN_WORDS)


def _state(clip: FrozenCLIP) -> dict[str, Tensor]:
    """All weights under transformers' names, each with memory of its own."""
    text = clip.require_text()
    parts = {
        "vision_model.": clip.vision.vision,
        "visual_projection.": clip.vision.visual_projection,
        "text_model.": text.text,
        "text_projection.": text.text_projection,
    }
    state = {
        prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.state_dict().items()
    }
    state["logit_scale"] = clip.log_scale
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _preparation(side: int) -> dict[str, object]:
    """CLIP's own preprocessing, in transformers' words."""
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
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
    }
