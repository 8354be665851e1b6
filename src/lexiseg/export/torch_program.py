"""A traced program as an archive that PyTorch itself runs, without lexiseg."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
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


def load_own_torch(path: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """The program of a file that this process has just written, for the parity check.

    PyTorch's reader unpickles parts of such an archive and evaluates the formulas of its sizes as Python text, so a file
    from elsewhere can run anything; nothing else in lexiseg opens one.
    """
    module = torch.export.load(path).module()

    @torch.inference_mode()
    def run(images: Tensor, text: Tensor) -> Tensor:
        return module(images, text)

    return run
