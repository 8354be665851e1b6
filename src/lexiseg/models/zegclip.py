"""ZegCLIP: deep prompts in a frozen tower, and one text-image decoder on its last block (CVPR 2023)."""

from dataclasses import dataclass

from lexiseg.models.cascade_clip import CascadeCLIP
from lexiseg.models.cascade_settings import CascadeSettings


@dataclass(frozen=True)
class ZegCLIPSettings(CascadeSettings):
    """ZegCLIP's defaults: one stage, the last of twelve blocks. Prompts: VOC 10, Context 35, COCO-Stuff 100."""

    stages: tuple[tuple[int, ...], ...] = ((12,),)


class ZegCLIP(CascadeCLIP):
    """ZegCLIP is Cascade-CLIP's base: the same prompts, descriptor and decoder with a cascade of one stage.

    ``stages=((6, 7, 8), (9, 10, 11), (12,))`` makes "ZegCLIP + Ours" of Cascade-CLIP's table 10, which is Cascade-CLIP.
    """
