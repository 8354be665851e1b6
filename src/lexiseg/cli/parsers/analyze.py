"""Flags of ``lexiseg analyze``."""

from lexiseg.cli.parsers.shared import CLIP, PHOTOS, Command, Flag, place

ESTIMATORS = ("unbiased", "plain")
"""Of :data:`lexiseg.ops.centered_kernel_alignment.Estimator`."""

_EXAMPLES = """examples (each figure has --help):
  lexiseg analyze cka photos/ --checkpoint runs/cascade_voc/best.ckpt
  lexiseg analyze patches photo.jpg --at 320,200 --checkpoint runs/cascade_voc/best.ckpt --blocks 6,9,12
  lexiseg analyze attention photo.jpg --at 320,200 --at 40,60"""

_CKA = """Linear CKA between every two blocks of a tower, over the patch tokens of photographs (Cascade-CLIP, figure 4).

Writes cka.png and cka.json. With --checkpoint the frozen CLIP and the trained model's prompted tower stand side by
side. Every patch of every photograph is one example; the unbiased estimator is Song et al.'s, the plain one Kornblith
et al.'s, which is too large while patches are few beside channels. Use dozens of photographs."""

_CKA_EXAMPLES = """examples:
  lexiseg analyze cka photos/ --checkpoint runs/cascade_voc/best.ckpt
  lexiseg analyze cka photos/ --clip openai/clip-vit-large-patch14 --blocks 6,12,18,24
  lexiseg analyze cka scenes/*.png --clip toy --short-side 128"""

_PATCHES = """Which patches resemble the one at a point, block by block (Cascade-CLIP, figures 1 and 6).

Writes STEM_patches.png and STEM_patches.json per photograph: the cosine of the patch at the point with every patch,
as colour over the photograph, one map per block; with --checkpoint a second row for the trained model's tower."""

_PATCHES_EXAMPLES = """examples:
  lexiseg analyze patches photo.jpg --at 320,200
  lexiseg analyze patches photo.jpg --at 320,200 --checkpoint runs/cascade_voc/best.ckpt --blocks 6,9,12
  lexiseg analyze patches scene.png --at 40,60 --clip toy --short-side 128"""

_ATTENTION = """What patches attend to in the last block, under CLIP's attention and under SCLIP's (SCLIP, figures 2 and 4).

Writes STEM_attention.png and STEM_attention.json per photograph: a row for each point, with its attention over all
patches as colour over the photograph, the mean over heads: CLIP, and correlative self-attention (CSA)."""

_ATTENTION_EXAMPLES = """examples:
  lexiseg analyze attention photo.jpg --at 320,200 --at 40,60
  lexiseg analyze attention scene.png --at 40,60 --clip toy --short-side 128"""

_SHORT_SIDE = "size that photographs are brought to (default: the checkpoint's, or 3/2 of the CLIP's own)"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _figure(name: str, description: str, examples: str, *own: Flag) -> Command:
    takes = (
        PHOTOS,
        CLIP,
        Flag("--checkpoint", "CKPT", "a trained model; its CLIP is the frozen one beside it"),
        Flag("--blocks", "NUMBERS", "all, or numbers from 1 with commas between", default="all"),
        Flag("--short-side", "PIXELS", _SHORT_SIDE, kind=_positive),
        *place("analysis"),
        *own,
    )
    return _command(name, description, examples, *takes)


def _command(name: str, description: str, examples: str, *takes: Flag) -> Command:
    told = description.partition("\n")[0]
    return Command(name, told, f"lexiseg.cli.analyze:run_{name}", description, examples, takes)


COMMAND = Command(
    "analyze",
    "look inside a tower: CKA between blocks, similarity of patches, attention",
    description="Figures of what the blocks of a tower hold, before and after training.",
    examples=_EXAMPLES,
    commands=(
        _figure(
            "cka", _CKA, _CKA_EXAMPLES,
            Flag("--estimator", None, "of HSIC", default="unbiased", choices=ESTIMATORS),
        ),
        _figure(
            "patches", _PATCHES, _PATCHES_EXAMPLES,
            Flag("--at", "X,Y", "pixel of the photograph: x from its left, y from its top", required=True),
            Flag("--centred", None, "take each photograph's mean token away before comparing"),
        ),
        _command(
            "attention", _ATTENTION, _ATTENTION_EXAMPLES, PHOTOS, CLIP,
            Flag("--at", "X,Y", "as of patches; may be given several times", required=True, more={"action": "append"}),
            Flag("--short-side", "PIXELS", _SHORT_SIDE, kind=_positive), *place("analysis"),
        ),
    ),
)  # fmt: skip
