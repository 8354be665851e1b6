"""SCLIP's learned projection: the one ablation of its table 2 that sees labels; fitted, kept in a file, read again."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lexiseg.dense.base import cosines, finish_block
from lexiseg.errors import ConfigError, DataError
from lexiseg.label_codes import label_codes
from lexiseg.ops.attention import attend
from lexiseg.ops.grid import PositionMode, tokens_to_map
from lexiseg.storage import write_atomically
from lexiseg.types import BlockTower

_TENSOR, _KEY = "projection", "key"


def fit_projection(
    tower: BlockTower,
    batches: Iterable[tuple[Tensor, Tensor]],
    text: Tensor,
    *,
    class_ids: Tensor | None = None,
    epochs: int = 10,
    learning_rate: float = 1e-4,
    logit_scale: float = 40.0,
    position_mode: PositionMode = "bicubic_offset",
) -> Tensor:
    """Fit the ``(D, D)`` matrix whose self-correlation replaces the last block's attention.

    The paper learns it per data set on 64 training images and gives no recipe; here it starts from the query
    projection and follows AdamW on the cross-entropy of patch logits. Everything before the last block is
    computed once; nothing of the tower changes.

    Args:
        tower: The frozen image tower.
        batches: Normalised images ``(B, 3, H, W)`` and labels ``(B, H, W)``, ``label_codes(K).ignore`` where nothing counts.
        text: ``(M, E)`` unit embeddings of the words.
        class_ids: ``(M,)`` which of K classes each word stands for, ascending; a class is as likely as its words together.
            None: every word is a class.
        epochs: Passes over the images.
        learning_rate: Of AdamW, without weight decay.
        logit_scale: Factor on the cosines.
        position_mode: How the position embedding reaches other grids.

    Returns:
        A matrix for ``SCLIP(projections=("learned",), learned=…)``.

    Raises:
        DataError: No image, or none with a labelled patch.
    """
    ids = torch.arange(len(text), device=text.device) if class_ids is None else class_ids.to(text.device)
    ignore = label_codes(int(ids[-1]) + 1).ignore
    with torch.no_grad():
        cached = [_tokens_and_labels(tower, images, labels, position_mode) for images, labels in batches]
    if not any((labels != ignore).any() for _, labels in cached):
        raise DataError("learning a projection needs at least one labelled image; got none")
    start = tower.projections(tower.depth - 1)[0].weight.detach().T
    matrix = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([matrix], lr=learning_rate, weight_decay=0.0)
    for _ in range(epochs):
        for tokens, labels in cached:
            if not (labels != ignore).any():
                continue
            optimizer.zero_grad()
            logits = logit_scale * _patch_logits(tower, tokens, matrix, text, labels.shape[-2:])
            F.cross_entropy(_of_classes(logits, ids), labels, ignore_index=ignore).backward()
            optimizer.step()
    return matrix.detach()


def write_projection(matrix: Tensor, path: Path, key: str) -> None:
    """Keep a fitted ``(D, D)`` matrix in a safetensors file; the folder is made if it is not there.

    Args:
        matrix: From :func:`fit_projection`.
        path: The file.
        key: Tells one fitting from another, see :func:`kept_key`.
    """
    content = {_TENSOR: matrix.detach().cpu().contiguous()}
    write_atomically(path, lambda part: save_file(content, part, metadata={_KEY: key}))


def read_projection(path: str | Path) -> Tensor:
    """The matrix of such a file.

    Raises:
        ConfigError: It is not there, or no such file.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            found: Tensor = file.get_tensor(_TENSOR)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"sclip: learned={path}: expected a file that a benchmark kept its learned projection in ({error}); leave learned "
            "out, and `lexiseg benchmark` fits one"
        ) from error
    return found


def kept_key(path: Path) -> str | None:
    """The key that a file was written with; None where there is none, or no such file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            told: dict[str, str] = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return told.get(_KEY)


def projection_fingerprint(path: str | Path) -> str:
    """Changes with the file's content.

    Raises:
        ConfigError: As of :func:`read_projection`.
    """
    return hashlib.sha256(read_projection(path).contiguous().numpy().tobytes()).hexdigest()[:16]


def _of_classes(logits: Tensor, class_ids: Tensor) -> Tensor:
    """Logits ``(B, M, h, w)`` of words to those ``(B, K, h, w)`` of classes, whose probabilities are sums over words."""
    count = int(class_ids[-1]) + 1
    if count == len(class_ids):
        return logits
    return torch.stack([logits[:, class_ids == index].logsumexp(1) for index in range(count)], dim=1)


def _tokens_and_labels(
    tower: BlockTower, images: Tensor, labels: Tensor, position_mode: PositionMode
) -> tuple[Tensor, Tensor]:
    """Tokens entering the last block, and the label at the centre of every patch, ``(B, h, w)``."""
    tokens = tower.embed(images, position_mode=position_mode)
    for index in range(tower.depth - 1):
        tokens = tower.block(index, tokens)
    middle = tower.patch_size // 2
    return tokens, labels[:, middle :: tower.patch_size, middle :: tower.patch_size].long()


def _patch_logits(
    tower: BlockTower, tokens: Tensor, matrix: Tensor, text: Tensor, grid: torch.Size
) -> Tensor:
    last = tower.depth - 1
    normed = tower.norm1(last, tokens)
    heads = tower.split_heads(normed @ matrix)
    prefix = tower.prefix_tokens
    attended = attend(heads[:, :, prefix:], heads, tower.value(last, normed))
    patches = tower.project(finish_block(tower, attended, tokens[:, prefix:]))
    return cosines(tokens_to_map(patches, (grid[0], grid[1])), text)
