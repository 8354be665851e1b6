"""LSeg (Li et al., ICLR 2022): every pixel's embedding against every word's, with an image encoder of its own."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lexiseg.constants import IMAGENET_MEAN, IMAGENET_STD
from lexiseg.errors import ConfigError
from lexiseg.models.image_pyramids import FusionDecoder, ResNetPyramid, VitPyramid, dpt_config
from lexiseg.models.lseg_settings import LSegSettings
from lexiseg.models.parameter_groups import group_parameters
from lexiseg.models.spatial_regularization import SpatialRegularization
from lexiseg.types import NO_NEEDS, Activation, Color, GroupSettings, ImageTower, MaskOutput

_HALF: Color = (0.5, 0.5, 0.5)
"""Mean and deviation of the ViT's images."""

_DECODED = 16
"""Side of the decoder's map in cells per side of ``patch_size``: half the finest stride, which is an eighth of that."""

_SCRATCH = ("decoder.", "head.", "block.")
"""Beginnings of the names of what no pretrained encoder brings."""


class LSeg(nn.Module):
    """Cosines of words with a trained map of pixel embeddings, divided by a temperature.

    The image tower of CLIP takes no part: only its words do. Differs from the release: products stay in the arithmetic of
    the rest (there half precision), and words are embedded once, not anew in every step.

    Args:
        tower: The frozen image tower of the CLIP whose words are used; not part of the state dict.
        settings: Architecture; the released demo's by default.

    Attributes:
        words_together: Whether words are compared: with the ``bottleneck`` block, by their maximum at each pixel.
    """

    offers_features = False
    activation: Activation = "linear"
    names_regions = False
    needs = NO_NEEDS
    smallest_grid = 2

    _mean: Tensor
    _std: Tensor

    def __init__(self, tower: ImageTower, settings: LSegSettings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or LSegSettings()
        self._tower = (tower,)  # in a tuple: no submodule, so the frozen tower enters no checkpoint
        sizes = ("patch_size", "grid", "width", "heads", "mlp_width", "taps", "features")
        config = dpt_config(levels=settings.levels, **{key: getattr(settings, key) for key in sizes})
        self.encoder: nn.Module = (
            VitPyramid(config)
            if settings.encoder == "vit"
            else ResNetPyramid(stem=settings.stem, stages=settings.stages, depths=settings.depths)
        )
        self.decoder = FusionDecoder(config)
        self.head = nn.Conv2d(settings.features, tower.embed_dim, kernel_size=1)
        self.block = None
        if settings.block != "none":
            self.block = SpatialRegularization(
                settings.block, depth=settings.block_depth, activation=settings.activation
            )
        colors = (_HALF, _HALF) if settings.encoder == "vit" else (IMAGENET_MEAN, IMAGENET_STD)
        for name, values in zip(("_mean", "_std"), colors, strict=True):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1) * 255, persistent=False)

    @property
    def tower(self) -> Any:
        """The frozen image tower."""
        return self._tower[0]

    @property
    def depends_on_text(self) -> bool:
        """Whether words are compared: with the ``bottleneck`` block."""
        return self.settings.block == "bottleneck"

    @property
    def words_together(self) -> bool:
        """As :attr:`depends_on_text`."""
        return self.depends_on_text

    @property
    def patch_size(self) -> int:
        """What height and width of images are multiples of: twice the ViT's patches, for the coarsest level halves them."""
        return self.settings.stride

    @property
    def cells_per_patch(self) -> int:
        """Logits of a word per ``patch_size`` squared, by which the segmenter bounds how many words it asks for at once."""
        side = _DECODED * (self.settings.enlargement if self.settings.upsampled else 1)
        return side * side

    def encode_bytes(self, height: int, width: int) -> int:
        """About what its largest tensors take for an image: embeddings of its pixels and their unit vectors.

        Args:
            height: In pixels, padded.
            width: Likewise.
        """
        cells = height * width // self.patch_size**2 * _DECODED**2
        return 2 * 4 * self.head.out_channels * cells

    @property
    def normalization(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of RGB in 0-255, each ``(3, 1, 1)``, as :meth:`normalize` applies them."""
        return self._mean, self._std

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What trains, in groups for the optimiser; what starts from scratch may learn at a rate of its own."""
        return group_parameters(self.named_parameters(), optim, scratch=_SCRATCH)

    def _apply(self, fn, recurse: bool = True) -> "LSeg":  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Take the tower along to another device or type, though it is no submodule."""
        self.tower._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def normalize(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` RGB in 0-255 to the encoder's input."""
        return (images - self._mean) / self._std

    def encode(self, images: Tensor) -> Tensor:
        """Unit pixel embeddings ``(B, E, h, w)`` of normalised ``(B, 3, H, W)``; h = H / 2 for strides of 32.

        Raises:
            ConfigError: Height or width is no multiple of the stride.
        """
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ConfigError(
                f"image of {height}x{width} pixels: this model needs multiples of {self.patch_size}; pad it or resize it"
            )
        return F.normalize(self.head(self.decoder(self.encoder(images))[-1]), dim=1, eps=0)

    def bind(self, state: Tensor, text: Tensor) -> Tensor:
        """The state itself: words that see each other come together."""
        del text
        return state

    def features(self, state: Tensor, text: Tensor | None = None) -> Tensor:
        """None: its embeddings are finer than patches, and a block may follow on the words' maps.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"{type(self).__name__} gives masks, not features; use one of the training-free methods"
        )

    def decode(self, state: Tensor, text: Tensor) -> MaskOutput:
        """Mask logits for any words.

        Args:
            state: From :meth:`encode`.
            text: ``(K, E)`` unit text embeddings.
        """
        return MaskOutput(self._maps(torch.einsum("behw,ke->bkhw", state, text.to(state.dtype))))

    def forward(self, images: Tensor, text: Tensor) -> MaskOutput:
        """Normalised images ``(B, 3, H, W)`` and unit text ``(K, E)`` to mask logits ``(B, K, h, w)``, in one pass."""
        return self.decode(self.encode(images), text)

    def _maps(self, cosines: Tensor) -> Tensor:
        maps = self._sharpened(cosines)
        return self._upsampled(maps if self.block is None else self.block(maps))

    def _sharpened(self, cosines: Tensor) -> Tensor:
        return cosines / self.settings.temperature

    def _upsampled(self, maps: Tensor) -> Tensor:
        times = self.settings.enlargement
        if not self.settings.upsampled or times == 1:
            return maps
        return F.interpolate(maps, scale_factor=times, mode="bilinear", align_corners=True)
