"""Every architectural choice of SAN, and the two released ones."""

from dataclasses import dataclass

from lexiseg.models.proposers.side_adapter_settings import SideAdapterOnClipSettings
from lexiseg.plain_settings import within


@dataclass(frozen=True)
class SANSettings(SideAdapterOnClipSettings):
    """Every choice of SAN; defaults are the release's with CLIP ViT-B/16.

    Attributes:
        name: What configurations and checkpoints call it.
        scale: Of cosines between regions and words; 100 in every CLIP of OpenAI.
        others: See :class:`~lexiseg.models.proposers.side_adapter_settings.SideAdapterOnClipSettings`.
    """

    name: str = "san"
    scale: float = within(100.0, above=0)


SAN_L14 = SANSettings(
    name="san_l14",
    resolution=0.7,
    early_blocks=18,
    fusion=((0, 0), (6, 1), (12, 2), (18, 3)),
)
"""As released with CLIP ViT-L/14 at 336 pixels."""
