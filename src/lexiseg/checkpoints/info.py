"""What a trained model says of itself, in whichever file or folder it lies."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.models.registry import complete_settings
from lexiseg.types import ClassSplit

LIBRARY = "lexiseg"
"""What published folders and cards name as the library that reads them."""

FORMAT = 1
_CLIP_KEYS = {"source", "fingerprint", "tokenizer", "activation", "vision_heads", "text_heads"}


@dataclass(frozen=True)
class CheckpointInfo:
    """Everything besides weights that is needed to use a trained model. Plain values only.

    Attributes:
        model: Name and settings, for :func:`lexiseg.models.registry.build_model`.
        clip: ``source``, ``fingerprint`` and how the CLIP was loaded (``tokenizer``, ``activation``, heads).
        templates: Prompt templates it was trained with.
        split: Classes, unseen names and setting it was trained on.
        protocol: Inference protocol it was validated with.
        synonyms: Further words that training had for a class, by the class's name; where there are none, no entry.
    """

    model: dict[str, Any]
    clip: dict[str, Any]
    templates: tuple[str, ...]
    split: ClassSplit
    protocol: dict[str, Any]
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dictionaries, text and numbers, readable with ``weights_only=True``."""
        split = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self.split).items()
        }
        return {
            "format": FORMAT,
            "model": self.model,
            "clip": self.clip,
            "templates": list(self.templates),
            "split": split,
            "protocol": self.protocol,
            "synonyms": {name: list(words) for name, words in self.synonyms.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "CheckpointInfo":
        """The inverse of :meth:`to_dict`."""
        split = dict(values["split"])
        split["classes"], split["unseen"] = tuple(split["classes"]), tuple(split["unseen"])
        return cls(
            dict(values["model"]),
            dict(values["clip"]),
            tuple(values["templates"]),
            ClassSplit(**split),
            dict(values["protocol"]),
            _synonyms(values.get("synonyms", {}), split["classes"]),
        )


def _synonyms(values: Mapping[str, Any], classes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Absent in files of before there were any.

    Raises:
        ValueError: Of no class, or no words.
    """
    for name, words in values.items():
        if name not in classes or not all(isinstance(word, str) for word in words):
            raise ValueError(f"synonyms of {name!r} are {words!r}")
    return {name: tuple(words) for name, words in values.items()}


def parse_info(values: Mapping[str, Any], path: Path | str) -> CheckpointInfo:
    """A description from plain values, whoever wrote them.

    Raises:
        CheckpointError: Something is missing, or is no such value.
    """
    try:
        info = CheckpointInfo.from_dict(values)
        complete_settings(info.model)
        for key in ("source", "fingerprint"):
            if not isinstance(info.clip[key], str):
                raise TypeError(f"clip.{key} is {info.clip[key]!r}")
        unknown = sorted(info.clip.keys() - _CLIP_KEYS)
        if unknown:
            raise ConfigError(f"clip has no setting {', '.join(unknown)}")
    except KeyError as error:
        raise CheckpointError(
            f"{path}: its description is incomplete ({error} is missing); train again"
        ) from error
    except (TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(f"{path}: its description cannot be used ({error}); train again") from error
    return info
