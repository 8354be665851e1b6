"""Whether a program is being made of what runs."""

import torch


def is_exporting() -> bool:
    """Whether ``torch.export`` traces this call; an older torch, which cannot say, takes compilation for it."""
    asked = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(asked())
