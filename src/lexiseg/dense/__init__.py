"""Training-free dense encoders: one file per method, one contract, no weights of their own."""

from lexiseg.dense.base import DenseEncoder, DenseReading, DenseState
from lexiseg.dense.registry import DENSE_ENCODERS, build_dense

__all__ = ["DENSE_ENCODERS", "DenseEncoder", "DenseReading", "DenseState", "build_dense"]
