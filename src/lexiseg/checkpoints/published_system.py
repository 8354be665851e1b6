"""Released files of the systems that bring their CLIP along: which is which, in, and out again."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lexiseg.checkpoints.layouts import fc_clip, lseg, ovseg, san, zegformer
from lexiseg.checkpoints.published_checkpoint import Imported, with_sidecar
from lexiseg.checkpoints.published_rows import PublishedLayout, Shape, free_lengths_taken
from lexiseg.checkpoints.training_file import MODEL_PREFIX
from lexiseg.errors import CheckpointError
from lexiseg.keys import check_keys
from lexiseg.models.registry import build_model, model_settings

OptionalShapes = Callable[[Mapping[str, Shape]], dict[str, Shape]]


@dataclass(frozen=True)
class PublishedSystem:
    """How the files of one release are read.

    Attributes:
        title: What messages call it.
        models: Names of its models in the registry.
        mark: A tensor that its files hold and no others.
        detect: A file's tensors to the model's settings, a dataclass or its values by name.
        layout: Settings and tower to the table of its files.
        optional_shapes: What a file may hold besides, of the names and shapes in it.
        clip: The CLIP inside a file, in OpenAI's or open_clip's names; empty where there is none.
        templates: Prompt templates that it was trained with.
        protocol: How it was tested: a name of :data:`lexiseg.inference.protocol.PUBLISHED`.
        container: Under which key the release looks for the tensors.
    """

    title: str
    models: tuple[str, ...]
    mark: str
    detect: Callable[[Mapping[str, Tensor]], Any]
    layout: Callable[[Any, Any], PublishedLayout]
    optional_shapes: OptionalShapes
    clip: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    templates: str = "vild14"
    protocol: str = "regions"
    container: str = "model"


SYSTEMS = (
    PublishedSystem(
        "SAN",
        ("san", "san_l14"),
        f"{san.SIDE}query_embed",
        san.detect_san,
        san.san_layout,
        san.optional_shapes,
        san.clip_of_san,
    ),
    PublishedSystem(
        "FC-CLIP",
        ("fc_clip",),
        "void_embedding.weight",
        fc_clip.detect_fc_clip,
        fc_clip.fc_clip_layout,
        fc_clip.optional_shapes,
        fc_clip.clip_of_fc_clip,
        protocol="fc_clip",
    ),
    PublishedSystem(
        "ZegFormer",
        ("zegformer",),
        zegformer.BACKGROUND,
        zegformer.detect_zegformer,
        zegformer.zegformer_layout,
        zegformer.optional_shapes,
        zegformer.clip_of_zegformer,
        templates="pixelclip_train",  # "A photo of a {} in the scene", on COCO-Stuff and VOC
        protocol="region_scores",
    ),
    PublishedSystem(
        "OVSeg",
        ("ovseg",),
        ovseg.NOTHING,
        ovseg.detect_ovseg,
        ovseg.ovseg_layout,
        ovseg.optional_shapes,
        ovseg.clip_of_ovseg,
        protocol="region_scores",
    ),
    PublishedSystem(
        "LSeg",
        ("lseg",),
        f"{lseg.PREFIX}scratch.head1.weight",
        lseg.detect_lseg,
        lambda settings, tower: lseg.lseg_layout(settings, tower.embed_dim),
        lambda found: {name: shape for name, shape in found.items() if name.startswith(lseg.CLIP)},
        lseg.clip_of_lseg,
        templates="plain",
        protocol="lseg",
        container="state_dict",
    ),
)
"""Every release of this kind."""


def system_of(published: Mapping[str, Tensor]) -> PublishedSystem | None:
    """Whose file it is; None where it is none of these."""
    return next((system for system in SYSTEMS if system.mark in published), None)


def system_called(name: str) -> PublishedSystem | None:
    """The release of a model of the registry; None where there is none of this kind."""
    return next((system for system in SYSTEMS if name in system.models), None)


def import_system(
    system: PublishedSystem, published: Mapping[str, Tensor], meta: dict[str, Any], tower: Any
) -> Imported:
    """Check every key of a released file, and translate it.

    Args:
        system: Whose file it is.
        published: Its tensors.
        meta: Its description.
        tower: The image tower of the CLIP that it was trained on.

    Raises:
        CheckpointError: Keys missing, superfluous or of a wrong shape; all kinds are named. Or a CLIP of another size.
    """
    try:
        found = system.detect(published)
        model = build_model(found if isinstance(found, Mapping) else asdict(found), tower)
        layout = system.layout(model.settings, tower)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"no file of {system.title} as released, or of another kind of CLIP than the {tower.kind} given ({error!r})"
        ) from error
    shapes = {name: tuple(tensor.shape) for name, tensor in published.items()}
    check_keys(
        _expected(layout, system, shapes, whole=bool(system.clip(published))),
        shapes,
        what=f"checkpoint of {system.title}",
    )
    model.load_state_dict(layout.from_published(published))
    return Imported(
        model_settings(model),
        {MODEL_PREFIX + name: tensor.clone() for name, tensor in model.state_dict().items()},
        meta,
        {name: tensor for name, tensor in published.items() if name not in layout.live},
        {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in published.items()},
    )


def export_system(
    system: PublishedSystem,
    settings: Mapping[str, Any],
    ours: Mapping[str, Tensor],
    tower: Any,
    sidecar: Path | None,
) -> dict[str, Any]:
    """A checkpoint of ours in a release's layout.

    Args:
        system: The release.
        settings: Of the model, with its name.
        ours: Its state dict.
        tower: Its CLIP's image tower.
        sidecar: What an import left beside the checkpoint.

    Raises:
        CheckpointError: No side-car, or one of another model: the CLIP that such a file holds comes from there.
    """
    if sidecar is None:
        raise CheckpointError(
            f"files of {system.title} hold their CLIP, which is kept in the side-car that an import writes; give --sidecar, or "
            "export it --to folder"
        )
    layout = system.layout(build_model(settings, tower).settings, tower)
    state, _ = with_sidecar(layout.to_published(ours), sidecar)
    return {system.container: state}


def _expected(
    layout: PublishedLayout, system: PublishedSystem, found: Mapping[str, Shape], *, whole: bool
) -> dict[str, Shape]:
    """Names and shapes of a file; one without its CLIP may leave out what does not stand here."""
    needed = layout.live | (layout.shapes.keys() if whole else found.keys())
    shapes = {name: shape for name, shape in layout.shapes.items() if name in needed}
    return free_lengths_taken(shapes | system.optional_shapes(found), found)
