"""An exported program behind the segmenter: onnxruntime or PyTorch runs it, and words it was trained on need no CLIP."""

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lexiseg.checkpoints.program_folder import PROGRAM_FILES, ProgramCard, read_card, require_packages
from lexiseg.clip.loading import FrozenCLIP
from lexiseg.clip.towers.text import TextTower
from lexiseg.errors import CheckpointError, ConfigError
from lexiseg.inference.devices import pick_device
from lexiseg.types import NO_NEEDS, Activation, MaskOutput, chunks

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_WORDS_AT_ONCE = 8192
"""Windows times words in one run: bounds what the decoder holds per word and window."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxProgram:
    """An ONNX file as a function of images and text embeddings.

    Args:
        path: The file.
        device: ``cpu``, ``cuda``, ``cuda:1``, or ``auto`` for whichever of the two onnxruntime was built for.

    Raises:
        ConfigError: onnxruntime is not installed, or not built for that device.
        CheckpointError: Not a readable ONNX file.
    """

    def __init__(self, path: Path, device: str = "auto") -> None:
        require_packages(("onnxruntime",), purpose="running an exported ONNX program")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors only: warnings tell of the optimiser's choices
        providers = _providers(device, onnxruntime.get_available_providers())
        try:
            self._session: InferenceSession = onnxruntime.InferenceSession(
                str(path), options, providers=providers
            )
        except Exception as error:  # onnxruntime raises a type of its own for every kind of damage
            told = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise CheckpointError(f"{path}: not a readable ONNX program ({told}); export again") from error

    def __call__(self, images: Tensor, text: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` and unit text ``(K, E)`` to mask logits ``(B, K, h, w)``."""
        inputs = {name: _to_numpy(tensor) for name, tensor in (("images", images), ("text", text))}
        (logits,) = self._session.run(["logits"], inputs)
        return torch.from_numpy(logits)


class TorchProgram:
    """A ``torch.export`` archive as a function of images and text embeddings.

    PyTorch's reader unpickles parts of such an archive and evaluates the formulas of its sizes as Python text, so a file
    from elsewhere can run anything: only what the user trusts is opened.

    Args:
        path: The file.
        device: Where it runs.

    Raises:
        CheckpointError: Not a readable archive.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self._device = device
        try:
            program = torch.export.load(path)
            if device.type != "cpu":
                from torch.export.passes import move_to_device_pass

                program = move_to_device_pass(program, device)
            self._module = program.module()
        except Exception as error:  # PyTorch's reader fails in a way of its own for every kind of damage
            told = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise CheckpointError(f"{path}: not a readable torch program ({told}); export again") from error

    @torch.inference_mode()
    def __call__(self, images: Tensor, text: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` and unit text ``(K, E)`` to mask logits ``(B, K, h, w)``."""
        logits: Tensor = self._module(images.to(self._device), text.to(self._device))
        return logits.to(images.device)


class ExportedModel:
    """A program in the form that the segmenter drives.

    The program is one graph from images and text to logits, so the tower runs when words are decoded and not before, and
    once more for every other set of words.

    Args:
        run: The program.
        card: Its description.
    """

    depends_on_text = False
    words_together = True
    """Images and words go in together: the segmenter asks for all words at once, not the whole graph for a few each."""

    offers_features = False
    names_regions = False
    needs = NO_NEEDS

    def __init__(self, run: Callable[[Tensor, Tensor], Tensor], card: ProgramCard) -> None:
        self._run = run
        self._patch_size = card.patch_size
        self.activation: Activation = card.info.protocol.get("activation", "sigmoid")
        self._mean, self._std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self._patch_size

    def require_words(self, words: Sequence[Sequence[str]]) -> None:
        """Refuse synonyms where the program was made of a model of regions.

        Such a model joins the words of a class before its classes compete for a region, and the program does not know which
        words are of one class: it would let them compete with each other.

        Args:
            words: Of each class.

        Raises:
            ConfigError: A class has several.
        """
        several = next((group for group in words if len(group) > 1), None)
        if self.activation == "scores" and several is not None:
            raise ConfigError(
                f"an exported program of a model of regions takes one word a class, got {'; '.join(several[:4])}; leave the "
                "synonyms out, or use the checkpoint itself"
            )

    def normalize(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in 0-255 to what the program takes."""
        return (images - self._mean) / self._std

    def encode(self, images: Tensor) -> Tensor:
        """The images themselves; see the class."""
        return images

    def bind(self, state: Tensor, text: Tensor) -> Tensor:
        """The images themselves."""
        del text
        return state

    def features(self, state: Tensor, text: Tensor | None = None) -> Tensor:
        """None: the graph ends in mask logits.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "an exported program gives masks, not features; use one of the training-free methods"
        )

    def decode(self, state: Tensor, text: Tensor) -> MaskOutput:
        """Mask logits ``(B, K, h, w)`` of images ``(B, 3, H, W)`` and unit text ``(K, E)``."""
        step = max(1, _WORDS_AT_ONCE // len(text))
        parts = [self._run(state[part], text) for part in chunks(len(state), step)]
        return MaskOutput(torch.cat(parts))


class ClipOnDemand:
    """Stands for a frozen CLIP that is loaded when a word needs it that did not come with the model.

    Args:
        load: Loads it.
        source: Its name.
        fingerprint: Of its weights.
        known: Words whose embeddings are there already, and which it is not asked about.
    """

    def __init__(
        self, load: Callable[[], FrozenCLIP], *, source: str, fingerprint: str, known: Sequence[str]
    ) -> None:
        self._load, self._known = load, frozenset(known)
        self._loaded: FrozenCLIP | None = None
        self._lock = Lock()
        self.source, self.fingerprint = source, fingerprint

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._whole(), name)

    def require_text(self) -> TextTower:
        """The text tower; raises what loading or :meth:`FrozenCLIP.require_text` raises."""
        return self._whole().require_text()

    def unknown_words(self, names: Sequence[str]) -> list[str]:
        """As :meth:`FrozenCLIP.unknown_words`; words that came with the model are known."""
        others = [name for name in names if name not in self._known]
        return self._whole().unknown_words(others) if others else []

    def _whole(self) -> FrozenCLIP:
        with self._lock:  # threads that meet a new word at once shall not load it twice
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded


def open_program(
    folder: Path, device: str, *, trusted: bool = False
) -> tuple[ExportedModel, ProgramCard, Tensor]:
    """The program of an exported folder, its description, and its own words' embeddings ``(K, E)``.

    Args:
        folder: Of the program.
        device: See :class:`OnnxProgram` and :func:`~lexiseg.inference.devices.pick_device`.
        trusted: Whether a ``torch.export`` archive may be opened, which may run code.

    Raises:
        CheckpointError: Damaged or incomplete, or an archive that nobody trusts.
        ConfigError: onnxruntime is not installed, or a device that is not there.
    """
    card, embeddings = read_card(folder)
    path = folder / PROGRAM_FILES[card.kind]
    if card.kind == "onnx":
        return ExportedModel(OnnxProgram(path, device), card), card, embeddings
    if not trusted:
        raise CheckpointError(
            f"{path}: opening a torch.export archive may run code that is in it. If you made it yourself or trust who did, say "
            "so: --trust on the command line, trusted=True in Python; or export with --to onnx, which runs nothing"
        )
    return ExportedModel(TorchProgram(path, pick_device(device)), card), card, embeddings


def _providers(device: str, available: Sequence[str]) -> list[Any]:
    kind, _, index = device.partition(":")
    if kind == "auto":
        return [name for name in (_PROVIDERS["cuda"], _PROVIDERS["cpu"]) if name in available]
    if _PROVIDERS.get(kind) not in available or (index and not index.isdigit()):
        offered = ", ".join(name for name, provider in _PROVIDERS.items() if provider in available)
        raise ConfigError(f"device '{device}' cannot run an ONNX program here; onnxruntime offers {offered}")
    if kind == "cpu":
        return [_PROVIDERS["cpu"]]
    return [(_PROVIDERS["cuda"], {"device_id": int(index or 0)}), _PROVIDERS["cpu"]]


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
