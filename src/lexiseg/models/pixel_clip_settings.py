"""Every choice of PixelCLIP: architecture, clustering, and the optimiser that its parts need."""

from dataclasses import dataclass

from lexiseg.clip.templates import PIXELCLIP_TRAIN
from lexiseg.errors import ConfigError
from lexiseg.models.tuned_tower import TunedPart
from lexiseg.plain_settings import require_plain_settings, within

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

    clusters: int = within(64, at_least=1, at_most=65536)
    global_clustering: bool = True
    prompt_length: int = within(4, at_least=1, at_most=4096)
    prompts_trained: bool = True
    prompt_template: str = PIXELCLIP_TRAIN[0]
    prompt_vocabulary: tuple[str, ...] = ()
    prompt_seed: int = within(0, at_least=0, below=2**32)
    momentum: float = within(0.999, at_least=0, at_most=1)
    assignment_scale: float = within(100.0, above=0)
    assignment_iterations: int = within(3, at_least=0, at_most=1000)
    image_size: int = within(320, at_least=1, at_most=4096)
    mask_size: int = within(256, at_least=1, at_most=4096)
    tuned: TunedPart = "attention"
    decoder_channels: int = within(64, at_least=1, at_most=4096)

    def __post_init__(self) -> None:
        """Bring lists from a configuration file to tuples and reject impossible settings."""
        require_plain_settings(self, "model")
        if self.prompt_template.count("{}") != 1:
            raise ConfigError(
                f"model.prompt_template: expected one {{}}, where the prompt stands, got '{self.prompt_template}'"
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

    lr: float = within(2e-4, above=0)
    prompt_factor: float = within(10.0, at_least=0)
    clip_factor: float = within(0.01, at_least=0)
    decoder_factor: float = within(1.0, at_least=0)
    weight_decay: float = within(1e-4, at_least=0)
    norm_weight_decay: float = within(0.0, at_least=0)
    betas: tuple[float, float] = within((0.9, 0.999), at_least=0, below=1)
    eps: float = within(1e-8, above=0)
    final_factor: float = within(0.5, at_least=0)
    gradient_clip: float = within(0.01, at_least=0)

    def __post_init__(self) -> None:
        """Refuse settings that would train nothing."""
        require_plain_settings(self, "optim")
