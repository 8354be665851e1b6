"""A traced program as an archive that PyTorch itself runs, without lexiseg."""

from pathlib import Path

import torch
from torch.export import ExportedProgram

from lexiseg.storage import write_atomically


def write_torch(program: ExportedProgram, path: Path) -> None:
    """Write a traced program for ``torch.export.load(path).module()``.

    Args:
        program: From :func:`lexiseg.export.program.trace`.
        path: The file, ending in ``.pt2``.
    """

    def write(part: Path) -> None:
        with part.open("wb") as stream:
            torch.export.save(program, stream)

    write_atomically(path, write)
