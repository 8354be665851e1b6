"""The one door through which a CLIP becomes a folder; every kind knows its own layout."""

from pathlib import Path

from lexiseg.clip.model import FrozenCLIP


def save_clip(clip: FrozenCLIP, folder: Path | str) -> None:
    """Write both towers as they are now, and the tokenizer; :func:`~lexiseg.clip.loading.load_clip` reads them back.

    A CLIP of transformers becomes a Hugging Face folder, with the same fingerprint where nothing was tuned; a
    ConvNeXt or ResNet, which transformers has no CLIP for, becomes a folder as open_clip publishes it.

    Args:
        clip: With its text tower.
        folder: Made if it is not there; files of the same names are replaced.

    Raises:
        LexisegError: The CLIP has no tokenizer, or the folder cannot be written to.
        CheckpointError: A ConvNeXt or ResNet whose file cannot be read any more: all but its image tower comes from there.
    """
    clip.family.save(clip, Path(folder))
