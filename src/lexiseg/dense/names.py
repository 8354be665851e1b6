"""Training-free methods by the names their papers gave them; a list to choose from, with nothing imported."""

from typing import TYPE_CHECKING

from lexiseg.lazy import LazyRegistry

if TYPE_CHECKING:
    from lexiseg.dense.base import DenseReading

DENSE_ENCODERS: "LazyRegistry[type[DenseReading]]" = LazyRegistry(
    {
        "clip": "lexiseg.dense.clip:VanillaCLIP",
        "maskclip": "lexiseg.dense.maskclip:MaskCLIP",
        "sclip": "lexiseg.dense.sclip:SCLIP",
        "lavg": "lexiseg.dense.lavg:LaVG",
        "clip-surgery": "lexiseg.dense.clip_surgery:CLIPSurgery",
        "gem": "lexiseg.dense.gem:GEM",
        "clearclip": "lexiseg.dense.clearclip:ClearCLIP",
        "naclip": "lexiseg.dense.naclip:NACLIP",
        "sc-clip": "lexiseg.dense.sc_clip:SCCLIP",
        "resclip": "lexiseg.dense.resclip:ResCLIP",
        "proxyclip": "lexiseg.dense.proxyclip:ProxyCLIP",
        "corrclip": "lexiseg.dense.corrclip:CorrCLIP",
        "trident": "lexiseg.dense.trident:Trident",
        "pixelclip": "lexiseg.dense.pixelclip:PixelCLIPReading",
        "groupvit": "lexiseg.dense.groupvit:GroupViT",
        "sam3": "lexiseg.dense.sam3:SAM3",
    }
)
"""Every training-free encoder; the keys are what configurations, tables and the command line say."""

TG_CLIP = "tg-clip"
"""SC-CLIP with text-guided recalibration and multi-view consistency reasoning."""

TG_CLIP_TEXT = "tg-clip-text"
"""TG-CLIP as its text has it to the letter: after upsampling, features of their own length, no setting of a data set."""

METHODS = (*DENSE_ENCODERS, TG_CLIP, TG_CLIP_TEXT)
"""Names that :func:`lexiseg.dense.methods.build_method` knows."""


def encoder_name(method: str) -> str:
    """The encoder of :data:`DENSE_ENCODERS` that a method reads by."""
    return "sc-clip" if method in (TG_CLIP, TG_CLIP_TEXT) else method
