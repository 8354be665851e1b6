"""What a few photographs with masks taught about some words: numbers for each word, in one small safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.storage import write_atomically

_KEY = "lexiseg_adaptation"
_FORM = 1
_EXPECTED = "a file that `lexiseg adapt` wrote"
_AXES = {"prototypes": 2, "scale": 1, "offset": 1}
_TOLD = {"form", "made_for", "words", "templates", "temperature", "threshold", "account"}


@dataclass(frozen=True)
class WordAdaptation:
    """Numbers for the words that were shown; a logit z of word w becomes ``T (scale_w z + f · prototype_w + offset_w)``.

    Attributes:
        words: The words that were shown, each written as it was given.
        prototypes: ``(M, D)`` what the unit features f of pixels are multiplied with; zeros where looks add nothing.
        scale: ``(M,)`` factor on the logit, above 0.
        offset: ``(M,)`` added to it, in the units of logits before the protocol's factor; very low for a word left out.
        templates: In which the words are spoken.
        made_for: Tells the model from others: fingerprints and settings, plain values.
        temperature: T, a factor on all logits, those of other words as well.
        threshold: Pixels scored below it are "none of these"; 0: none is.
        account: What each part contributed, plain values.
    """

    words: tuple[str, ...]
    prototypes: Tensor
    scale: Tensor
    offset: Tensor
    templates: tuple[str, ...]
    made_for: Mapping[str, Any]
    temperature: float = 1.0
    threshold: float = 0.0
    account: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path | str) -> None:
        """Write the file; its folder is made if need be.

        Raises:
            LexisegError: It cannot be written.
        """
        path = Path(path)
        tensors = {name: getattr(self, name).detach().cpu().float().contiguous().clone() for name in _AXES}
        told = {
            "form": _FORM,
            "made_for": dict(self.made_for),
            "words": list(self.words),
            "templates": list(self.templates),
            "temperature": self.temperature,
            "threshold": self.threshold,
            "account": dict(self.account),
        }
        metadata = {"format": "pt", _KEY: json.dumps(told, ensure_ascii=False)}
        write_atomically(path, lambda part: save_file(tensors, part, metadata=metadata))

    @classmethod
    def read(cls, path: Path | str) -> "WordAdaptation":
        """Read such a file, every key checked.

        Raises:
            CheckpointError: Missing, damaged, or something else.
        """
        path = Path(path)
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file; expected {_EXPECTED}")
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            told = json.loads(metadata[_KEY])
        except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{path}: damaged or something else ({error}); expected {_EXPECTED}"
            ) from error
        _check(path, tensors, told)
        return cls(
            words=tuple(told["words"]),
            **{name: tensors[name].float() for name in _AXES},
            templates=tuple(told["templates"]),
            made_for=told["made_for"],
            temperature=float(told["temperature"]),
            threshold=float(told["threshold"]),
            account=told["account"],
        )

    def require_made_for(self, told: Mapping[str, Any], where: object) -> None:
        """Refuse another model than the one that it was made with.

        Raises:
            CheckpointError: It is another.
        """
        wrong = [key for key in {**self.made_for, **told} if self.made_for.get(key) != told.get(key)]
        if wrong:
            theirs, ours = (each.get(wrong[0]) or "none" for each in (self.made_for, told))
            raise CheckpointError(
                f"{where}: adapted with {wrong[0]} {theirs}, but the model has {ours}; "
                "use the model that it was adapted with, or adapt this one"
            )


def require_adaptation_file(adapted: object) -> None:
    """Refuse what cannot name a file that ``lexiseg adapt`` wrote; None names none.

    Raises:
        ConfigError: No text, or an empty one.
    """
    if adapted is not None and (not isinstance(adapted, str | Path) or not str(adapted).strip()):
        raise ConfigError(f"adapted: expected the path of {_EXPECTED}, got {adapted!r}")


def _check(path: Path, tensors: Mapping[str, Tensor], told: object) -> None:
    """Every key, every kind and every length.

    Raises:
        CheckpointError: One is not as :meth:`WordAdaptation.write` leaves it.
    """
    if not isinstance(told, dict) or set(told) != _TOLD or told["form"] != _FORM:
        raise CheckpointError(
            f"{path}: its description has other entries than expected of {_EXPECTED}; adapt again"
        )
    kinds = {"made_for": dict, "words": list, "templates": list, "account": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(told[key], kind)]
    wrong += [key for key in ("words", "templates") if not all(isinstance(each, str) for each in told[key])]
    wrong += [
        key
        for key, low, high in (("temperature", 0.0, float("inf")), ("threshold", -1.0, 1.0))
        if isinstance(told[key], bool) or not isinstance(told[key], int | float) or not low < told[key] < high
    ]
    count = len(told["words"]) if isinstance(told["words"], list) else -1
    if set(tensors) != set(_AXES):
        wrong += sorted(set(tensors) ^ set(_AXES))
    else:
        wrong += [
            name
            for name, axes in _AXES.items()
            if tensors[name].ndim != axes or len(tensors[name]) != count or not tensors[name].isfinite().all()
        ]
    if wrong or count < 1:
        raise CheckpointError(
            f"{path}: {wrong[0] if wrong else 'words'} is not as expected of {_EXPECTED}; adapt again"
        )
