"""Every architectural choice of Cascade-CLIP and of the models it plugs onto."""

from dataclasses import dataclass
from typing import Literal, get_args

from lexiseg.errors import ConfigError
from lexiseg.models.block_aggregation import AggregationKind
from lexiseg.models.block_projection import ProjectionKind
from lexiseg.ops.gaussian import NeighborhoodForm
from lexiseg.types import require_plain_types

PromptKind = Literal["deep", "none", "spectral"]
DecoderKind = Literal["attention", "spectral"]
QueryKind = Literal["independent", "shared"]
Normalization = Literal["imagenet", "clip"]


@dataclass(frozen=True)
class CascadeSettings:
    """Every architectural choice of Cascade-CLIP; defaults are the released code's on PASCAL VOC.

    Attributes:
        name: What configurations and checkpoints call this choice of parts: ``cascade_clip``, or a preset of
            :mod:`~lexiseg.models.presets`.
        stages: Blocks of each stage, counted from 1 as in the paper, shallow to deep. One stage of the last block
            alone is the base without the cascade.
        prompts: What trains inside the tower: ``deep`` prompts before every block (VPT), ``spectral`` ones, which
            also filter the patches (SPT-SEG), or ``none``.
        prompt_length: Prompt tokens per block: VOC 10, Context 35, COCO-Stuff 50 in the released configurations.
        prompt_dropout: On prompts.
        projection: How an intermediate block reaches the text's space; see
            :class:`~lexiseg.models.block_projection.BlockProjection`.
        aggregation: How the blocks of a stage become one map: ``gaussian`` (NGA), or what table 8 sets beside it:
            ``sum``, ``concat``, ``attention``.
        aggregation_sigma: Width of the Gaussian over a stage's blocks.
        aggregation_form: Initial Gaussian as released or as in eq. 4.
        aggregation_trained: Whether the weights of ``gaussian`` and ``sum`` train ("†" in table 8).
        queries: ``independent``: every stage projects the text for itself; ``shared``: one projection for all (table 9).
        decoder: ``attention`` (SegViT, ZegCLIP) or ``spectral`` (SPT-SEG).
        decoder_layers: Layers of each text-image decoder.
        decoder_heads: Attention heads of each decoder.
        decoder_dropout: In each decoder.
        spectral_grid: Side in patches of the grid that the spectral filter is stored for; 32 as released.
        spectral_filter_trained: Whether that filter trains. In the release it stays at its random start.
        unused_parameters: Also allocate what the release allocates and never uses; see
            :class:`~lexiseg.models.text_image_decoder.TextImageDecoder`.
        normalization: ``imagenet`` mean and deviation, as released, or ``clip``: the tower's own.
    """

    name: str = "cascade_clip"
    stages: tuple[tuple[int, ...], ...] = ((6, 7, 8), (9, 10, 11), (12,))
    prompts: PromptKind = "deep"
    prompt_length: int = 10
    prompt_dropout: float = 0.1
    projection: ProjectionKind = "random"
    aggregation: AggregationKind = "gaussian"
    aggregation_sigma: float = 1.0
    aggregation_form: NeighborhoodForm = "release"
    aggregation_trained: bool = True
    queries: QueryKind = "independent"
    decoder: DecoderKind = "attention"
    decoder_layers: int = 3
    decoder_heads: int = 8
    decoder_dropout: float = 0.1
    spectral_grid: int = 32
    spectral_filter_trained: bool = False
    unused_parameters: bool = False
    normalization: Normalization = "imagenet"

    def __post_init__(self) -> None:
        """Bring lists from a configuration file to tuples and reject impossible settings."""
        require_plain_types(self, "model")
        object.__setattr__(self, "stages", tuple(tuple(int(b) for b in stage) for stage in self.stages))
        if not self.stages or any(not stage for stage in self.stages):
            raise ConfigError(f"model.stages: expected at least one block in every stage, got {self.stages}")
        for name, allowed in (
            ("prompts", get_args(PromptKind)),
            ("projection", get_args(ProjectionKind)),
            ("aggregation", get_args(AggregationKind)),
            ("queries", get_args(QueryKind)),
            ("aggregation_form", get_args(NeighborhoodForm)),
            ("decoder", get_args(DecoderKind)),
            ("normalization", get_args(Normalization)),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"model.{name}: expected one of {', '.join(allowed)}, got '{getattr(self, name)}'"
                )
        for name in ("prompt_length", "decoder_layers", "decoder_heads", "spectral_grid"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name}: expected at least 1, got {getattr(self, name)}")
        if self.decoder == "spectral" and self.decoder_heads == 1:
            raise ConfigError(
                "model.decoder_heads: the spectral decoder shares its heads between low and high frequencies; expected "
                "at least 2, got 1"
            )
