"""CLIP's text tower in a published checkpoint: it may lie there whole or in part, and no model of ours holds it."""

from collections.abc import Iterable, Iterator, Mapping

from lexiseg.checkpoints.published_rows import ANY, Shape


def text_tower_shapes(found: Mapping[str, Shape], prefix: str) -> dict[str, Shape]:
    """What belongs to a text tower in OpenAI's names, of the size that the file itself tells.

    Args:
        found: Names and shapes in the file.
        prefix: Before each name, such as ``text_encoder.``.

    Returns:
        Names with the shapes they must have: every tensor of every block that the file has some of, and of the rest what
        it has. Nothing where the file has no text tower.
    """
    norm = found.get(f"{prefix}ln_final.weight", ())
    if len(norm) != 1:
        return {}
    width, blocks = norm[0], f"{prefix}transformer.resblocks."
    rest: dict[str, Shape] = {
        f"{prefix}positional_embedding": (ANY, width),
        f"{prefix}token_embedding.weight": (ANY, width),
        f"{prefix}text_projection": (width, ANY),
        f"{prefix}logit_scale": (),
        f"{prefix}ln_final.weight": (width,),
        f"{prefix}ln_final.bias": (width,),
    }
    numbers = {name.removeprefix(blocks).split(".")[0] for name in found if name.startswith(blocks)}
    return {name: shape for name, shape in rest.items() if name in found} | _blocks(blocks, numbers, width)


def _blocks(prefix: str, numbers: Iterable[str], width: int) -> dict[str, Shape]:
    return {f"{prefix}{number}.{name}": shape for number in numbers for name, shape in _block(width)}


def _block(width: int) -> Iterator[tuple[str, Shape]]:
    for name, outputs, inputs in (
        ("attn.in_proj_", 3 * width, width),
        ("attn.out_proj.", width, width),
        ("mlp.c_fc.", 4 * width, width),
        ("mlp.c_proj.", width, 4 * width),
    ):
        yield f"{name}weight", (outputs, inputs)
        yield f"{name}bias", (outputs,)
    for norm in ("ln_1", "ln_2"):
        yield f"{norm}.weight", (width,)
        yield f"{norm}.bias", (width,)
