"""The model without prompts that Cascade-CLIP's table 10 calls Frozen CLIP: only decoders train."""

from dataclasses import dataclass

from lexiseg.models.cascade_clip import CascadeCLIP
from lexiseg.models.cascade_settings import CascadeSettings, PromptKind


@dataclass(frozen=True)
class FrozenClipSettings(CascadeSettings):
    """One stage, the last of twelve blocks, and no prompts."""

    stages: tuple[tuple[int, ...], ...] = ((12,),)
    prompts: PromptKind = "none"


class FrozenClipModel(CascadeCLIP):
    """A decoder trained on a tower that nothing is added to.

    Neither prompts nor the norm that comes with them: the last block's tokens reach the text's space by CLIP's own norm
    and projection. No code of this row was released; the class embedding still enters twice, as in ZegCLIP's tower
    without prompts. ``stages=((6, 7, 8), (9, 10, 11), (12,))`` makes "Frozen CLIP + Ours".
    """
