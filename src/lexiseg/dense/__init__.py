"""Training-free dense encoders: one file per method, one contract, no weights of their own."""

from typing import TYPE_CHECKING, Any

from lexiseg.lazy import locate

# Loaded when first asked for: the names of the methods, in `names`, must not wait for torch.
_HOME = {
    "DENSE_ENCODERS": "lexiseg.dense.names",
    "DenseEncoder": "lexiseg.dense.base",
    "DenseReading": "lexiseg.dense.base",
    "DenseState": "lexiseg.dense.base",
    "build_dense": "lexiseg.dense.registry",
}

if TYPE_CHECKING:
    from lexiseg.dense.base import DenseEncoder, DenseReading, DenseState
    from lexiseg.dense.names import DENSE_ENCODERS
    from lexiseg.dense.registry import build_dense

__all__ = ["DENSE_ENCODERS", "DenseEncoder", "DenseReading", "DenseState", "build_dense"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return locate(f"{_HOME[name]}:{name}")
    raise AttributeError(f"module 'lexiseg.dense' has no attribute '{name}'")
