"""A CLIP with a ConvNeXt as open_clip publishes one: transformers has no model that its image tower would fit into."""

from pathlib import Path

from safetensors.torch import save_file

from lexiseg.clip.formats.open_clip import weights_in
from lexiseg.clip.loading import FrozenCLIP, read_clip_file
from lexiseg.clip.towers.convnext import ConvNextTower, convnext_to_open_clip
from lexiseg.errors import ConfigError
from lexiseg.storage import write_atomically, write_text

_WEIGHTS = "open_clip_model.safetensors"
_SETTINGS = "open_clip_config.json"


def save_open_clip(clip: FrozenCLIP, folder: Path | str) -> None:
    """Write the file that the CLIP came from with its image tower as it is now; :func:`load_clip` and open_clip read it.

    Text tower, settings and whatever else that file holds go over unchanged, and the tokenizer beside it.

    Args:
        clip: With a ConvNeXt and its text tower.
        folder: Made if it is not there; files of the same names are replaced.

    Raises:
        ConfigError: The image tower is no ConvNeXt.
        CheckpointError: The file that it came from cannot be read any more.
        LexisegError: The CLIP has no tokenizer, or the folder cannot be written to.
    """
    if not isinstance(clip.tower, ConvNextTower):
        raise ConfigError(f"the CLIP '{clip.source}' has no ConvNeXt image tower; save_clip writes it")
    folder, source = Path(folder), weights_in(Path(clip.source)) or Path(clip.source)
    text = clip.require_text()
    state, _ = read_clip_file(source)
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in {**state, **convnext_to_open_clip(clip.tower)}.items()
    }
    write_atomically(folder / _WEIGHTS, lambda part: save_file(tensors, part))
    settings = source.parent / _SETTINGS
    if settings.is_file():
        write_text(settings.read_text(encoding="utf-8"), folder / _SETTINGS)
    text.tokenizer.save(folder, context_length=text.context_length)
