"""Every choice of PixelCLIP: architecture, clustering, and the optimiser that its parts need."""

from dataclasses import dataclass
from typing import get_args

from lexiseg.clip.templates import PIXELCLIP_TRAIN
from lexiseg.errors import ConfigError
from lexiseg.models.tuned_tower import TunedPart
from lexiseg.types import require_plain_types

_DECODER_WIDTH_STEP = 32
"""The decoder's full and half width both split into groups of 16."""


@dataclass(frozen=True)
class PixelCLIPSettings:
    """PixelCLIP's choices; defaults are the released ViT-B/16 configuration's.

    The released ConvNeXt has ``image_size`` 640, ``assignment_scale`` 1 and ``tuned`` all.

    Attributes:
        clusters: K, how many clusters all masks are sorted into.
        global_clustering: Sort the masks of all images into K shared clusters; if false each mask is a target of
            its own, compared with its own pooled feature.
        prompt_length: Learnable tokens per cluster.
        prompts_trained: Whether the class prompts train; if false they stay the random words that they start as.
        prompt_template: Sentence around a class prompt, which stands at ``{}``.
        prompt_vocabulary: Words that the prompts start from; none: any token of the tokenizer.
        prompt_seed: Of that draw.
        momentum: Of the teacher; 0 switches it off (the student pools the masks itself), 1 keeps the first weights.
        assignment_scale: Factor on cosines of masks and clusters before the balanced assignment.
        assignment_iterations: Of Sinkhorn's algorithm; 0 assigns each mask to its nearest cluster.
        image_size: Side in pixels that both views are stretched to for the tower.
        mask_size: Side of the targets.
        tuned: What trains inside the image tower; see :data:`~lexiseg.models.tuned_tower.TunedPart`.
        decoder_channels: Width of the convolutional decoder.

    Raises:
        ConfigError: A value out of range.
    """

    clusters: int = 64
    global_clustering: bool = True
    prompt_length: int = 4
    prompts_trained: bool = True
    prompt_template: str = PIXELCLIP_TRAIN[0]
    prompt_vocabulary: tuple[str, ...] = ()
    prompt_seed: int = 0
    momentum: float = 0.999
    assignment_scale: float = 100.0
    assignment_iterations: int = 3
    image_size: int = 320
    mask_size: int = 256
    tuned: TunedPart = "attention"
    decoder_channels: int = 64

    def __post_init__(self) -> None:
        """Bring lists from a configuration file to tuples and reject impossible settings."""
        require_plain_types(self, "model")
        object.__setattr__(self, "prompt_vocabulary", tuple(str(word) for word in self.prompt_vocabulary))
        for name in ("clusters", "prompt_length", "image_size", "mask_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name}: expected at least 1, got {getattr(self, name)}")
        if self.prompt_template.count("{}") != 1:
            raise ConfigError(
                f"model.prompt_template: expected one {{}}, where the prompt stands, got '{self.prompt_template}'"
            )
        if not 0 <= self.momentum <= 1:
            raise ConfigError(f"model.momentum: expected from 0 (no teacher) to 1, got {self.momentum}")
        if self.assignment_scale <= 0 or self.assignment_iterations < 0:
            raise ConfigError(
                "model: expected assignment_scale above 0 and assignment_iterations at least 0, got "
                f"{self.assignment_scale} and {self.assignment_iterations}"
            )
        if self.tuned not in get_args(TunedPart):
            raise ConfigError(
                f"model.tuned: expected one of {', '.join(get_args(TunedPart))}, got '{self.tuned}'"
            )
        if self.decoder_channels < 1 or self.decoder_channels % _DECODER_WIDTH_STEP:
            raise ConfigError(
                f"model.decoder_channels: expected a multiple of {_DECODER_WIDTH_STEP}, got {self.decoder_channels}"
            )


@dataclass(frozen=True)
class PixelCLIPOptimSettings:
    """AdamW with cosine decay and one learning rate per part; defaults as released (10,000 steps, batch 48).

    Attributes:
        lr: Learning rate that the factors multiply.
        prompt_factor: For the class prompts.
        clip_factor: For the image tower.
        decoder_factor: For the decoder.
        weight_decay: Decoupled, for everything but group norms.
        norm_weight_decay: For the decoder's group norms.
        betas: AdamW's moments.
        eps: AdamW's epsilon.
        final_factor: The cosine ends at this share of each learning rate.
        gradient_clip: Largest norm of the gradient of all parameters together; 0 for none.

    Raises:
        ConfigError: A value that would train nothing.
    """

    lr: float = 2e-4
    prompt_factor: float = 10.0
    clip_factor: float = 0.01
    decoder_factor: float = 1.0
    weight_decay: float = 1e-4
    norm_weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    final_factor: float = 0.5
    gradient_clip: float = 0.01

    def __post_init__(self) -> None:
        """Refuse settings that would train nothing."""
        require_plain_types(self, "optim")
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.lr <= 0:
            raise ConfigError(f"optim.lr: expected above 0, got {self.lr}")
        for name in ("prompt_factor", "clip_factor", "decoder_factor", "final_factor", "gradient_clip"):
            if getattr(self, name) < 0:
                raise ConfigError(f"optim.{name}: expected at least 0, got {getattr(self, name)}")
