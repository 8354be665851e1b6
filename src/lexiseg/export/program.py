"""A mask model as one traced program: normalised images and text embeddings in, mask logits out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from lexiseg.errors import ConfigError
from lexiseg.models.region_model import RegionModel
from lexiseg.types import MaskModel

INPUTS = ("images", "text")
OUTPUT = "logits"
TRACED_BATCH, TRACED_GRID, TRACED_CLASSES = 2, (5, 7), 3
"""Sizes of the inputs that the trace runs on; no other size is treated differently."""

_KEPT_METADATA = ("val", "tensor_meta")


class MaskProgram(nn.Module):
    """A trained mask model with its frozen tower as one function of two tensors.

    Windows, their padding and the classes' competition stay outside; so does the text tower.

    Args:
        model: The trained model.
    """

    def __init__(self, model: MaskModel) -> None:
        super().__init__()
        self.model = model
        self.tower = model.tower  # registered here, for the model itself does not own it

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` and unit text ``(K, E)`` to mask logits ``(B, K, h, w)``."""
        if isinstance(self.model, RegionModel):  # what it is trained on is less than its answer
            return self.model.decode(self.model.encode(images), text).logits
        return self.model(images, text).logits


def require_traceable(model: MaskModel) -> None:
    """Refuse a model of regions that holds a part which no program can hold, before anything is run.

    Raises:
        ConfigError: What it is, and what to do.
    """
    if isinstance(model, RegionModel) and model.untraceable:
        raise ConfigError(model.untraceable)


@torch.no_grad()
def trace(model: MaskModel) -> ExportedProgram:
    """Trace a model once for any batch, any multiples of the patch size from a few patches up, and any number of classes.

    The program holds the weights that it uses and no others, and no word about where or from which files it was made.

    Args:
        model: A trained model on the processor; it is put into evaluation mode.

    Returns:
        The program, with inputs ``images`` and ``text``.

    Raises:
        ConfigError: See :func:`require_traceable`.
    """
    require_traceable(model)
    patch, (rows, columns) = model.patch_size, TRACED_GRID
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(TRACED_BATCH, 3, patch * rows, patch * columns, generator=generator)
    text = F.normalize(torch.randn(TRACED_CLASSES, model.tower.embed_dim, generator=generator), dim=-1)
    height, width = (patch * Dim(name, min=model.smallest_grid) for name in ("rows", "columns"))
    sizes = {"images": {0: Dim("batch"), 2: height, 3: width}, "text": {0: Dim("classes")}}
    program = torch.export.export(
        MaskProgram(model.eval()), (images, text), dynamic_shapes=sizes, strict=False
    )
    _drop_unused(program)
    _drop_origins(program)
    return program


def _drop_unused(program: ExportedProgram) -> None:
    """Leave out weights that no operation reads: a tower's position ids, and what the release allocates in vain."""
    signature = program.graph_signature
    unused = {node.name: node for node in program.graph.find_nodes(op="placeholder") if not node.users}
    for spec in list(signature.input_specs):
        name = getattr(spec.arg, "name", None)
        if spec.kind is InputKind.USER_INPUT or name not in unused or spec.target is None:
            continue
        signature.input_specs.remove(spec)
        for tensors in (program.state_dict, program.constants):
            tensors.pop(spec.target, None)
        program.graph.erase_node(unused[name])
    program.graph_module.recompile()


def _drop_origins(program: ExportedProgram) -> None:
    """Forget from which lines of which files the operations came: paths of the machine that exported."""
    for node in program.graph.nodes:
        node.meta = {key: value for key, value in node.meta.items() if key in _KEPT_METADATA}
