"""SPT-SEG: spectral prompts in a frozen tower and a spectral-guided decoder (Xu et al., 2024)."""

from dataclasses import dataclass

from lexiseg.models.cascade_clip import CascadeCLIP
from lexiseg.models.cascade_settings import CascadeSettings, DecoderKind, PromptKind


@dataclass(frozen=True)
class SptSegSettings(CascadeSettings):
    """One stage, the last of twelve blocks; spectral prompts and decoder."""

    stages: tuple[tuple[int, ...], ...] = ((12,),)
    prompts: PromptKind = "spectral"
    decoder: DecoderKind = "spectral"


class SptSeg(CascadeCLIP):
    """SPT-SEG: ZegCLIP with a filter on the patches' spectrum and a decoder that splits their frequencies.

    Trained with focal and SSIM loss (``loss=ssim``). Neither configurations nor training code were released; prompt
    lengths and schedule are taken from ZegCLIP. ``stages=((6, 7, 8), (9, 10, 11), (12,))`` makes "SPT-SEG + Ours" of
    Cascade-CLIP's table 10.
    """
