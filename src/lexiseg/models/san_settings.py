"""Every architectural choice of SAN, and the two released ones."""

from dataclasses import dataclass

from lexiseg.errors import ConfigError
from lexiseg.models.proposers.side_adapter_settings import SideAdapterSettings
from lexiseg.plain_settings import within


@dataclass(frozen=True)
class SANSettings(SideAdapterSettings):
    """Every choice of SAN; defaults are the release's with CLIP ViT-B/16.

    Attributes:
        name: What configurations and checkpoints call it.
        resolution: Side of CLIP's image as a share of the side adapter's.
        early_blocks: CLIP blocks that run before the shadow tokens join.
        scale: Of cosines between regions and words; 100 in every CLIP of OpenAI.
        others: See :class:`~lexiseg.models.proposers.side_adapter_settings.SideAdapterSettings`.
    """

    name: str = "san"
    resolution: float = within(0.5, above=0, at_most=1)
    early_blocks: int = within(9, at_least=1)
    scale: float = within(100.0, above=0)

    def __post_init__(self) -> None:
        """Reject impossible settings; ``ConfigError`` names them."""
        super().__post_init__()
        latest = max((block for block, _ in self.fusion), default=0)
        if latest > self.early_blocks:
            raise ConfigError(
                f"model.fusion: CLIP block {latest} runs after the shadow tokens join; expected blocks up to "
                f"model.early_blocks={self.early_blocks}"
            )


SAN_L14 = SANSettings(
    name="san_l14",
    resolution=0.7,
    early_blocks=18,
    fusion=((0, 0), (6, 1), (12, 2), (18, 3)),
)
"""As released with CLIP ViT-L/14 at 336 pixels."""
