"""A traced program as an ONNX file."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.export import ExportedProgram

from lexiseg.checkpoints.program_folder import require_packages
from lexiseg.export.program import INPUTS, OUTPUT

PACKAGES = ("onnx", "onnxscript")

_SIZES = {
    "images": {0: "batch", 2: "height", 3: "width"},
    "text": {0: "classes"},
}
"""What the file calls the sizes that may change."""


def write_onnx(program: ExportedProgram, path: Path) -> None:
    """Write a traced program as one ONNX file (two, ``.onnx`` and ``.onnx.data``, beyond protobuf's 2 GB).

    Args:
        program: From :func:`lexiseg.export.program.trace`.
        path: The file.

    Raises:
        ConfigError: onnx or onnxscript is not installed.
    """
    require_packages(PACKAGES, purpose="an ONNX export")
    with _quietly():
        converted = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=_SIZES,
            verbose=False,
        )
    if converted is None:
        raise RuntimeError("expected torch.onnx.export to return a program")
    _drop_origins(converted.model)
    converted.save(path)


def _drop_origins(model: object) -> None:
    """Forget what the exporter notes on every node, among it paths of the machine that exported."""
    graph = model.graph  # type: ignore[attr-defined]
    for item in (graph, *graph.all_nodes(), *graph.inputs, *graph.outputs, *graph.initializers.values()):
        item.metadata_props.clear()
    for node in graph.all_nodes():
        for value in node.outputs:
            value.metadata_props.clear()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's own account, which speaks of packages that nobody asked for."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
