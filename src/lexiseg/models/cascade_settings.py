"""Every architectural choice of Cascade-CLIP and of the models it plugs onto."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from lexiseg.errors import ConfigError
from lexiseg.models.block_aggregation import AggregationKind
from lexiseg.models.block_projection import ProjectionKind
from lexiseg.ops.gaussian import NeighborhoodForm
from lexiseg.plain_settings import require_plain_settings, within

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
    prompt_length: int = within(10, at_least=1, at_most=4096)
    prompt_dropout: float = within(0.1, at_least=0, below=1)
    projection: ProjectionKind = "random"
    aggregation: AggregationKind = "gaussian"
    aggregation_sigma: float = within(1.0, above=0)
    aggregation_form: NeighborhoodForm = "release"
    aggregation_trained: bool = True
    queries: QueryKind = "independent"
    decoder: DecoderKind = "attention"
    decoder_layers: int = within(3, at_least=1, at_most=64)
    decoder_heads: int = within(8, at_least=1, at_most=4096)
    decoder_dropout: float = within(0.1, at_least=0, below=1)
    spectral_grid: int = within(32, at_least=1, at_most=1024)
    spectral_filter_trained: bool = False
    unused_parameters: bool = False
    normalization: Normalization = "imagenet"

    def __post_init__(self) -> None:
        """Bring lists from a configuration file to tuples and reject impossible settings."""
        object.__setattr__(self, "stages", _checked_stages(self.stages))
        require_plain_settings(self, "model")
        if self.decoder == "spectral" and self.decoder_heads == 1:
            raise ConfigError(
                "model.decoder_heads: the spectral decoder shares its heads between low and high frequencies; expected "
                "at least 2, got 1"
            )


def _checked_stages(given: Any) -> tuple[tuple[int, ...], ...]:
    """Blocks by stage, each block once and all ascending, as the cascade reads a tower from shallow to deep.

    Stages that all read the very same blocks are what table 7 sets beside the cascade.
    """
    expected = f"model.stages: expected lists of block numbers such as [[6,7,8],[12]], got {given!r}"
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ConfigError(expected)
    if not given or any(not isinstance(stage, Sequence) or isinstance(stage, str) for stage in given):
        raise ConfigError(expected)
    if any(not stage for stage in given):
        raise ConfigError(f"model.stages: expected at least one block in every stage, got {given}")
    blocks = [block for stage in given for block in stage]
    if any(type(block) is not int or block < 1 for block in blocks):
        raise ConfigError(expected)
    same = all(list(stage) == list(given[0]) for stage in given)
    for earlier, later in pairwise(given[0] if same else blocks):
        if later <= earlier:
            raise ConfigError(
                f"model.stages: expected every block once, shallow to deep; {later} follows {earlier} in {given}"
            )
    return tuple(tuple(stage) for stage in given)
