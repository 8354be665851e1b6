"""The shared vocabulary of shapes and small value types.

Axes, always in this order: B images of a batch, K classes, N tokens, D channels, L layers, H W pixels,
h w patches (height first). Images are RGB.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lexiseg.errors import ConfigError
from lexiseg.label_codes import LabelMap
from lexiseg.segments import SegmentMap, Segments

Setting = Literal["inductive", "transductive", "supervised"]
UnseenPixels = Literal["shown", "excluded"]

PositionMode = Literal["bilinear", "bilinear_antialias", "bicubic", "bicubic_offset", "bicubic_antialias"]
"""How a square position embedding is brought to another grid; every method names its own.

``bilinear``: Cascade-CLIP, ZegCLIP, SPT-SEG. ``bicubic``: MaskCLIP and most ports. ``bicubic_offset``: bicubic with
the scale computed from ``size + 0.1`` (DINO's guard against a floor that loses a row, which SCLIP and its followers
kept). ``bicubic_antialias``: bicubic with antialiasing, as timm and open_clip do. ``bilinear_antialias``: TIPS.
"""

Activation = Literal["sigmoid", "linear", "scores"]
"""What a model's answers are to be read as. ``sigmoid``: of mask models, whose windows are averaged after the sigmoid.
``linear``: logits, which are averaged. ``scores``: what is averaged are scores already, at least 0."""

Color = tuple[float, float, float]
"""One number per channel of RGB."""


@dataclass(frozen=True)
class ClassSplit:
    """Which classes carry labels during training, and under which rules.

    Attributes:
        name: What result files and checkpoints call this split.
        classes: Every class name, in label-id order.
        unseen: Names without a single labelled training pixel; the others are seen.
        setting: ``inductive`` (unseen names unknown in training), ``transductive`` (names known, pixels
            unlabelled) or ``supervised`` (all labelled; the ceiling).
        unseen_pixels: ``shown`` if training images may contain unseen objects as unlabelled pixels (the
            published data sets do), ``excluded`` if such images are left out of training.

    Raises:
        ConfigError: Empty or repeated names, an unseen name that is no class, or a supervised split that would leave
            out the images it needs.
    """

    name: str
    classes: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    setting: Setting = "inductive"
    unseen_pixels: UnseenPixels = "shown"

    def __post_init__(self) -> None:
        """Reject contradictory splits where they are made, not where they would first hurt."""
        for kind, names in (("class", self.classes), ("unseen class", self.unseen)):
            if any(not name.strip() for name in names):
                raise ConfigError(f"split '{self.name}': a {kind} name is empty; give every {kind} a name")
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ConfigError(f"split '{self.name}': {kind} named twice: {', '.join(repeated)}")
        unknown = [name for name in self.unseen if name not in self.classes]
        if unknown:
            raise ConfigError(
                f"split '{self.name}': unseen {', '.join(map(repr, unknown))} not among the classes "
                f"({', '.join(self.classes)}); spell unseen names exactly as the data set does"
            )
        if self.setting == "supervised" and self.unseen_pixels == "excluded":
            raise ConfigError(
                f"split '{self.name}': setting=supervised needs the images that unseen_pixels=excluded leaves out; set "
                "unseen_pixels=shown"
            )
        if self.classes and not self.seen:
            raise ConfigError(
                f"split '{self.name}': all {len(self.classes)} classes are unseen; leave some seen"
            )

    @property
    def unseen_ids(self) -> tuple[int, ...]:
        """Label ids of the unseen classes, ascending."""
        return tuple(i for i, name in enumerate(self.classes) if name in self.unseen)

    @property
    def seen_ids(self) -> tuple[int, ...]:
        """Label ids of the seen classes, ascending."""
        return tuple(i for i, name in enumerate(self.classes) if name not in self.unseen)

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of the seen classes in label-id order."""
        return tuple(name for name in self.classes if name not in self.unseen)

    @property
    def training_ids(self) -> tuple[int, ...]:
        """Label ids whose text the model is trained against: query i stands for ``training_ids[i]``."""
        return self.seen_ids if self.setting == "inductive" else tuple(range(len(self.classes)))


@dataclass(frozen=True)
class Sample:
    """One labelled photograph as a data set reads it, before any transform.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        label: ``(H, W)`` class ids, uint8 with ``IGNORE_INDEX`` where nothing counts; of more than 254 classes uint16 with
            65535 there. See `lexiseg.label_codes`.
        name: Unique within the data set; result files use it.
        segments: Things and stuff one by one, where the data set tells them apart; None: only classes are known.
        captions: Of each of its captions the words, as places among the data set's; None: nobody said anything, or was asked.
    """

    image: npt.NDArray[np.uint8]
    label: LabelMap
    name: str
    segments: Segments | None = None
    captions: tuple[tuple[int, ...], ...] | None = None


class SegmentationDataset(Protocol):
    """What every data set offers: class names in label-id order and samples by index."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label-id order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class SegBatch:
    """Several samples of one size, as tensors.

    Attributes:
        images: ``(B, 3, H, W)`` uint8 RGB, not normalised: the model knows its own mean and deviation.
        labels: ``(B, H, W)`` int64 ids into the data set's full class list of K classes, ``label_codes(K).ignore`` elsewhere.
        names: B sample names.
        segments: Things and stuff of each of the B photographs, where the data set tells them apart; empty otherwise.
        words: Of each of the B photographs the words of its caption, ``(W,)`` int64 places among the data set's; W may be 0.
            Empty where there are no captions.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()
    segments: tuple[SegmentMap, ...] = ()
    words: tuple[Tensor, ...] = ()

    def to(self, device: torch.device | str, **kwargs: Any) -> "SegBatch":
        """Return the batch on ``device``; Lightning calls this."""
        segments = tuple(each.to(device, **kwargs) for each in self.segments)
        words = tuple(each.to(device, **kwargs) for each in self.words)
        return SegBatch(
            self.images.to(device, **kwargs), self.labels.to(device, **kwargs), self.names, segments, words
        )

    def pin_memory(self) -> "SegBatch":
        """Return the batch in page-locked memory; the data loader calls this."""
        segments = tuple(each.pin_memory() for each in self.segments)
        words = tuple(each.pin_memory() for each in self.words)
        return SegBatch(self.images.pin_memory(), self.labels.pin_memory(), self.names, segments, words)

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class PairBatch:
    """Several regions, cut out of their photographs, and a word for each.

    Attributes:
        regions: ``(B, 3, S, S)`` normalised for the tower that reads them, zero outside the region.
        masks: ``(B, S, S)`` bool, the region in each.
        words: ``(B,)`` int64 into the words that there are.
        names: B photograph names.
    """

    regions: Tensor
    masks: Tensor
    words: Tensor
    names: tuple[str, ...] = ()

    def to(self, device: torch.device | str, **kwargs: Any) -> "PairBatch":
        """Return the batch on ``device``; Lightning calls this."""
        regions, masks, words = (each.to(device, **kwargs) for each in (self.regions, self.masks, self.words))
        return PairBatch(regions, masks, words, self.names)

    def pin_memory(self) -> "PairBatch":
        """Return the batch in page-locked memory; the data loader calls this."""
        return PairBatch(
            self.regions.pin_memory(), self.masks.pin_memory(), self.words.pin_memory(), self.names
        )

    def __len__(self) -> int:
        return len(self.regions)


@dataclass(frozen=True)
class MaskBatch:
    """Several unlabelled photographs in two views, and the masks that both views share.

    Attributes:
        weak: ``(B, 3, S, S)`` uint8 RGB, what a teacher sees.
        strong: ``(B, 3, S, S)`` uint8 RGB, the same window with its colours, sharpness and a hole changed.
        masks: ``(N, R, R)`` bool, the masks of all photographs one after the other; N may be 0.
        image_of_mask: ``(N,)`` int64 in [0, B), ascending: the photograph that each mask belongs to.
        names: B photograph names.
    """

    weak: Tensor
    strong: Tensor
    masks: Tensor
    image_of_mask: Tensor
    names: tuple[str, ...] = ()

    def to(self, device: torch.device | str, **kwargs: Any) -> "MaskBatch":
        """Return the batch on ``device``; Lightning calls this."""
        return self._each(lambda tensor: tensor.to(device, **kwargs))

    def pin_memory(self) -> "MaskBatch":
        """Return the batch in page-locked memory; the data loader calls this."""
        return self._each(Tensor.pin_memory)

    def __len__(self) -> int:
        return len(self.weak)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "MaskBatch":
        weak, strong, masks = change(self.weak), change(self.strong), change(self.masks)
        return MaskBatch(weak, strong, masks, change(self.image_of_mask), self.names)


@dataclass(frozen=True)
class VisionFeatures:
    """What a mask model reads off the frozen tower; independent of any word.

    Attributes:
        stages: One ``(B, D, h, w)`` map per stage, shallow to deep.
        cls: ``(B, D)`` class token of the last layer.
    """

    stages: tuple[Tensor, ...]
    cls: Tensor


@dataclass(frozen=True)
class MaskOutput:
    """Mask logits before any upsampling.

    Attributes:
        logits: ``(B, K, h, w)`` on the patch grid; what the loss and the segmenter take.
        stage_logits: The same per stage; they sum to ``logits`` for a cascade.
    """

    logits: Tensor
    stage_logits: tuple[Tensor, ...] = field(default=())


@dataclass(frozen=True)
class Needs:
    """What a model must be given beside a photograph; asked before any work.

    Attributes:
        masks: Masks of the photograph, class-agnostic: such a model is a :class:`MaskedSegmentable`.
    """

    masks: bool = False


NO_NEEDS = Needs()


class ImageTower(Protocol):
    """A frozen image encoder whose patches can be read: a ViT, a ConvNeXt, a SigLIP, a DINO, a tuned copy of any.

    Whoever reads a tower asks what it offers by the flags here, never of what class it is.

    Attributes:
        kind: What messages call it, such as ``ViT``.
        mean: RGB mean of its own preprocessing, for values in [0, 1].
        std: Standard deviation of its own preprocessing, likewise.
        patch_size: Pixels per side that one patch stands for; images must be multiples of it.
        image_size: Native square input side in pixels.
        embed_dim: Channels E of what it gives; the joint image-text space where it has one.
        prefix_tokens: Class and register tokens before the patches; 0 for none.
        has_class_token: Whether the first of them stands for the image.
        has_blocks: Whether its attention blocks can be stepped, so that it is a :class:`BlockTower`.
        takes_prompts: Whether learned prompts may enter between the blocks: a :class:`BlockTower` with a class token,
            no register tokens, and CLIP's way of embedding.
        aligned_patches: Whether its patches were trained to match words, so that they need no other reading.
        own_reading: The one training-free method that reads it, and reads no other: ``groupvit`` of a :class:`GroupTower`,
            ``sam3`` of a :class:`ConceptTower`. None: those of patches do.
        position_mode: How its own code brings position embeddings to other grids; None where it has none, and where
            every reading brings its own way, as those published for CLIP do.
    """

    kind: str
    mean: Color
    std: Color
    patch_size: int
    image_size: int
    embed_dim: int
    prefix_tokens: int
    has_class_token: bool
    has_blocks: bool
    takes_prompts: bool
    aligned_patches: bool
    own_reading: str | None
    position_mode: PositionMode | None

    @property
    def unread_parameters(self) -> tuple[str, ...]:
        """Beginnings of the names of parameters that :meth:`dense_features` never reads."""

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Patch grid ``(h, w)`` of ``(B, 3, H, W)`` images; ``ConfigError`` where the patch does not divide them."""

    def block_tokens(self, images: Tensor) -> Iterator[Tensor]:
        """Patch tokens ``(B, h*w, D)`` after every block (or stage) of normalised images, from the first."""

    def dense_features(self, images: Tensor) -> Tensor:
        """Normalised ``(B, 3, H, W)`` to patch features ``(B, E, h, w)``, not normalised, by the tower's own reading."""

    def __call__(self, images: Tensor) -> Tensor:
        """Image embeddings ``(B, E)``, not normalised: the tower's own pooling."""


class BlockTower(ImageTower, Protocol):
    """An image tower of transformer blocks that are stepped one by one, for readings that change their attention.

    Letters: M heads, N tokens, prefix included, D channels of a token, d = D / M.

    Attributes:
        depth: Number of blocks.
        width: D.
        num_heads: M, of every block.
    """

    depth: int
    width: int
    num_heads: int

    def embed(self, images: Tensor, *, position_mode: PositionMode = ...) -> Tensor:
        """Normalised ``(B, 3, H, W)`` to the tokens ``(B, N, D)`` that enter the first block."""

    def dense_features(self, images: Tensor, *, position_mode: PositionMode = ...) -> Tensor:
        """As of every tower, with position embeddings brought to the grid in a way of the caller's."""

    def projections(self, index: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """Query, key and value projection of block ``index``."""

    def qkv(self, index: int, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of block ``index``, each ``(B, M, N, d)``, from normed tokens."""

    def query(self, index: int, normed: Tensor) -> Tensor:
        """Queries alone, ``(B, M, N, d)``."""

    def key(self, index: int, normed: Tensor) -> Tensor:
        """Keys alone, ``(B, M, N, d)``."""

    def value(self, index: int, normed: Tensor) -> Tensor:
        """Values alone, ``(B, M, N, d)``."""

    def split_heads(self, tokens: Tensor) -> Tensor:
        """Cut the channels of ``(B, N, D)`` into ``(B, M, N, d)``."""

    def attention_output(self, index: int, heads: Tensor) -> Tensor:
        """Attended heads ``(B, M, N, d)`` to what the block's attention adds, ``(B, N, D)``."""

    def norm1(self, index: int, tokens: Tensor) -> Tensor:
        """The norm before block ``index``'s attention."""

    def mlp(self, index: int, tokens: Tensor) -> Tensor:
        """What the second half of block ``index`` adds to ``(B, N, D)``, without the residual."""

    def block(self, index: int, tokens: Tensor) -> Tensor:
        """Run block ``index`` (from 0) on ``(B, N, D)`` tokens."""

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens after the last block, each on its own, to the joint space: ``(…, D)`` to ``(…, E)``."""


@dataclass(frozen=True)
class PatchGroups:
    """What a tower that groups its patches makes of images. Letters: G groups, E channels of the joint space.

    Attributes:
        embeddings: ``(B, G, E)`` of each group, not normalised.
        image: ``(B, E)`` of the whole image, not normalised.
        maps: ``(B, G, h, w)`` how far each patch belongs to each group, in [0, 1]; they sum to 1 over the groups.
    """

    embeddings: Tensor
    image: Tensor
    maps: Tensor


class GroupTower(ImageTower, Protocol):
    """An image tower that gathers its patches in a few groups on the way; words name groups, not patches.

    Attributes:
        logit_scale: Factor on cosines with words in its own training.
    """

    logit_scale: float

    def groups(self, images: Tensor) -> PatchGroups:
        """The groups of normalised ``(B, 3, H, W)`` images."""


@dataclass(frozen=True)
class ConceptAnswers:
    """What images show of one word, as logits. Letters: N queries.

    Attributes:
        masks: ``(B, N, h, w)`` of each query.
        queries: ``(B, N)`` whether it is of the word.
        presence: ``(B, 1)`` whether the word is in the image.
        semantic: ``(B, 1, h, w)`` of the word as a whole, without queries.
    """

    masks: Tensor
    queries: Tensor
    presence: Tensor
    semantic: Tensor


class ConceptTower(ImageTower, Protocol):
    """An image tower that looks once and then answers one word after another; its words are tokens, not vectors.

    Attributes:
        cells_per_patch: Cells of a mask in a patch.
    """

    cells_per_patch: int

    def look(self, images: Tensor) -> Any:
        """Normalised ``(B, 3, H, W)``, squares of the native side, to what :meth:`answer` asks."""

    def answer(self, seen: Any, word: Tensor) -> ConceptAnswers:
        """What the images show of one word ``(E,)``, as its text tower gives it."""


class RegionPooling(Protocol):
    """A pooling that may look at parts of a map alone. Letters: N regions, C channels of the map.

    Attributes:
        logit_scale: Logarithm of the scale of cosines with words, a tensor without axes.
        empty_regions: Whether it says something of a region without a position; otherwise the embedding of such a region
            means nothing.
    """

    logit_scale: Tensor
    empty_regions: bool

    def pool_regions(self, features: Tensor, regions: Tensor) -> Tensor:
        """Embeddings ``(B, N, E)``, not normalised, of ``(B, N, h, w)`` bool regions of a map ``(B, C, h, w)``."""


class StageTower(ImageTower, RegionPooling, Protocol):
    """A convolutional CLIP: maps that halve their side from stage to stage; it pools over the last.

    Attributes:
        stage_widths: Channels of each stage's map, from the finest; its strides are 4, 8, 16, 32.
    """

    stage_widths: tuple[int, ...]

    def stage_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map ``(B, C, h, w)`` after each stage, of normalised images whose sides are multiples of the patch size."""


class Segmentable(Protocol):
    """Anything the segmenter can drive: images in once, then any words at once.

    ``encode`` runs the tower; ``decode`` answers for a vocabulary. Dense readings, trained mask models and exported
    programs all have this form, which is why evaluation, prediction and export share one path.
    """

    @property
    def depends_on_text(self) -> bool:
        """Whether a word's answer changes with the other words: then ``decode`` gets all of them, or a bound state."""

    @property
    def words_together(self) -> bool:
        """Whether even a bound state must be decoded with all words in one call."""

    @property
    def offers_features(self) -> bool:
        """Whether ``features`` gives text-aligned patch features; otherwise it raises ``ConfigError``."""

    @property
    def activation(self) -> Activation:
        """What ``decode`` gives; a protocol for the model follows it (:func:`~lexiseg.inference.protocol.suited`)."""

    @property
    def needs(self) -> Needs:
        """What it must be given beside a photograph."""

    @property
    def names_regions(self) -> bool:
        """Whether it is a :class:`RegionSegmentable`, which answers with regions and a score of each class for each."""

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels; images are padded to multiples of it."""

    def normalize(self, images: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8 RGB to what ``encode`` takes."""

    def encode(self, images: Tensor) -> Any:
        """Normalised ``(B, 3, H, W)`` to a state that does not depend on words."""

    def bind(self, state: Any, text: Tensor) -> Any:
        """State for which ``decode`` may be called with parts of ``text``; the state itself where words do not interact."""

    def features(self, state: Any, text: Tensor | None = None) -> Tensor:
        """Text-aligned patch features ``(B, D, h, w)``, not normalised."""

    def decode(self, state: Any, text: Tensor) -> MaskOutput:
        """State and unit text embeddings ``(K, D)`` to mask logits ``(B, K, h, w)``."""


class MaskedSegmentable(Segmentable, Protocol):
    """What reads a photograph inside masks: its ``needs.masks`` is true."""

    @property
    def one_label_per_region(self) -> bool:
        """Whether afterwards every region of its map takes its most frequent label; then the map is ``(H, W)`` ids."""

    def region_map(self, masks: Tensor) -> Tensor:
        """What it wants to know of masks ``(M, H, W)`` bool of a photograph, pixel by pixel: ``(…, H, W)`` integers.

        :func:`~lexiseg.ops.region_ids.region_ids` makes ids of them, 0 for no mask. Nearest pixels of the map are cut into
        windows; padding is :data:`~lexiseg.ops.region_ids.OUTSIDE`, -1, and so is what a map has fewer layers than another's.
        """

    def encode(self, images: Tensor, regions: Tensor | None = None) -> Any:
        """As of every model; ``regions`` are the windows' parts of the map, ``(B, …, H, W)`` int64, None for no map at all."""


class PictureReader(Segmentable, Protocol):
    """What makes one state of a photograph of all its windows, and one map of that; there it says ``whole_picture``."""

    def gather(
        self,
        states: Sequence[Any],
        merge: Callable[[Tensor], Tensor],
        picture: Tensor,
        regions: Tensor | None = None,
    ) -> Any:
        """Join the states of all windows of a photograph.

        Args:
            states: What ``encode`` gave, batch by batch, in the windows' order.
            merge: ``(W, D, h, w)`` of all windows to their mean ``(D, H', W')`` on the whole picture's patch grid.
            picture: ``(H, W, 3)`` uint8 RGB, the photograph at its own size.
            regions: The photograph's map of a :class:`MaskedSegmentable`, ``(…, H, W)``.

        Returns:
            A state of one image; maps decoded from it lie over the whole photograph, on any grid.
        """


class PixelReader(Segmentable, Protocol):
    """What is compared with words at the photograph's pixels, view by view; there it says ``reads_pixels``."""

    def pixel_features(self, state: Any, text: Tensor) -> Tensor:
        """Patch features ``(B, E, h, w)`` that are to be upsampled, of any length."""

    def pull(self, features: Tensor, text: Tensor) -> Tensor:
        """Upsampled features ``(B, E, N)`` to unit ones, by all words ``(K, E)``."""


class Redrawing(Segmentable, Protocol):
    """What draws labels anew after they are decided; there it says ``redraws``."""

    def redraw_labels(
        self, state: Any, labels: Tensor, maps: Callable[[int], Tensor], classes: int
    ) -> tuple[Tensor, Tensor]:
        """Labels ``(H, W)`` and their scores ``(H, W)``, 0 where the old ones stand.

        Args:
            state: Of the photograph.
            labels: ``(H, W)`` int32 class ids; ``classes`` itself stands for no class.
            maps: A class to its probabilities ``(H, W)``.
            classes: How many.
        """


class GroupSettings(Protocol):
    """What of an optimiser's settings decides over single parameters."""

    @property
    def lr(self) -> float:
        """Peak learning rate of everything that trains."""

    @property
    def prompt_lr_scale(self) -> float:
        """Prompts learn at this times ``lr``."""

    @property
    def scratch_lr_scale(self) -> float:
        """What starts from scratch beside a pretrained network of the model's own learns at this times ``lr``."""

    @property
    def weight_decay(self) -> float:
        """Decoupled weight decay."""

    @property
    def decay_norms(self) -> bool:
        """Whether layer norms and biases are decayed too."""


@runtime_checkable
class MaskModel(Segmentable, Protocol):
    """A trainable :class:`Segmentable`: an ``nn.Module`` on a frozen tower that is none of its submodules.

    Registry, training, checkpoints, export and analysis know a model by these members alone. Its ``state_dict`` is what
    was trained, and nothing of the tower; ``to`` takes the tower along.
    """

    settings: Any
    """A frozen dataclass of plain values; its ``name`` is the model's in the registry."""

    @property
    def tower(self) -> ImageTower:
        """The frozen image tower."""

    @property
    def normalization(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of RGB in 0-255, each ``(3, 1, 1)``, as ``normalize`` applies them."""

    @property
    def smallest_grid(self) -> int:
        """Patches per side that a traced program needs at least; tracing takes an axis of one for no axis."""

    def parameter_groups(self, optim: GroupSettings) -> list[dict[str, Any]]:
        """What trains, in groups for the optimiser, each with ``params``, ``lr`` and ``weight_decay``."""

    def __call__(self, images: Tensor, text: Tensor) -> MaskOutput:
        """Normalised ``(B, 3, H, W)`` and unit text ``(K, E)`` to masks, all words in one pass: what trains and is traced."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Of the model, trained or not, as in ``nn.Module``."""

    def state_dict(self) -> dict[str, Any]:
        """What was trained, as in ``nn.Module``."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """As in ``nn.Module``."""

    def eval(self) -> Self:
        """As in ``nn.Module``."""

    def to(self, device: torch.device) -> Self:
        """As in ``nn.Module``, and the tower goes along."""


@dataclass(frozen=True)
class Proposals:
    """Regions of some photographs that somebody found before any word was known.

    Attributes:
        masks: ``(B, N, h, w)`` mask logits on any grid over the whole (padded) image: a region is where they are above 0.
        embeddings: ``(B, N, D)`` of each region, not normalised, in a space of its maker's; None where it gives none.
        pixels: ``(B, C, h, w)`` the map that the masks were read from; None where there is none.
        earlier: Of the layers before the last, first to last, for losses on each.

    Raises:
        ValueError: Parts that do not belong together.
    """

    masks: Tensor
    embeddings: Tensor | None = None
    pixels: Tensor | None = None
    earlier: tuple["Proposals", ...] = ()

    def __post_init__(self) -> None:
        """Reject parts that do not belong together."""
        if self.masks.ndim != 4:
            raise ValueError(f"proposals: expected masks (B, N, h, w), got {tuple(self.masks.shape)}")
        if self.embeddings is not None and self.embeddings.shape[:2] != self.masks.shape[:2]:
            raise ValueError(
                f"proposals: masks {tuple(self.masks.shape)} but embeddings {tuple(self.embeddings.shape)}"
            )


@dataclass(frozen=True)
class ClassWords:
    """Classes as a model needs them that names whole regions: all at once, with their words.

    Attributes:
        text: ``(M, E)`` unit text embeddings, one row per word; the words of a class stand together.
        class_ids: ``(M,)`` int64, the class that each row stands for, ascending from 0 to K - 1.
        seen: ``(K,)`` bool, which classes carried labels in training.
        crop_text: ``(M, E)`` the same words in the templates of a classifier that looks at crops; None for the same.
    """

    text: Tensor
    class_ids: Tensor
    seen: Tensor
    crop_text: Tensor | None = None

    @classmethod
    def plain(cls, text: Tensor) -> "ClassWords":
        """One word per class, ``(K, E)``, and nothing known of training."""
        count = text.shape[0]
        return cls(
            text,
            torch.arange(count, device=text.device),
            torch.zeros(count, dtype=torch.bool, device=text.device),
        )

    @property
    def classes(self) -> int:
        """K; not ``len``, which a traced program would take for a constant."""
        return self.seen.shape[0]

    def __len__(self) -> int:
        return len(self.seen)


@dataclass(frozen=True)
class ClassifiedMasks:
    """What a model answers that names whole regions.

    Attributes:
        masks: ``(B, N, h, w)`` mask logits.
        scores: ``(B, N, K)`` of each region and class, at least 0.
        nothing: ``(B, N)`` score of "no object"; None where the model knows no such thing.
    """

    masks: Tensor
    scores: Tensor
    nothing: Tensor | None = None

    def __len__(self) -> int:
        return self.scores.shape[-1]

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.masks.device

    def part(self, classes: slice | Tensor) -> "ClassifiedMasks":
        """For some of the classes: a slice, or ``(K,)`` bool."""
        return ClassifiedMasks(self.masks, self.scores[..., classes], self.nothing)

    @property
    def maps(self) -> Tensor:
        """Class maps ``(B, K, h, w)``: the sum over regions of score times sigmoid of the mask (MaskFormer, sec. 3.4)."""
        return torch.einsum("bnk,bnhw->bkhw", self.scores.float(), self.masks.float().sigmoid())


@dataclass(frozen=True)
class PixelFeatures:
    """What a model answers whose words are compared with features at a photograph's pixels, after all upsampling.

    Attributes:
        features: ``(B, E, h, w)`` of windows, of any length.
        words: ``(K, E)`` that are asked for, unit length.
        pull: Upsampled features ``(R, E, C)`` to unit ones; it may know more words than are asked for.
    """

    features: Tensor
    words: Tensor
    pull: Callable[[Tensor], Tensor]

    def __len__(self) -> int:
        return len(self.words)

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.features.device

    def part(self, words: slice | Tensor) -> "PixelFeatures":
        """For some of the words: a slice, or ``(K,)`` bool."""
        return PixelFeatures(self.features, self.words[words], self.pull)


class RegionSegmentable(Segmentable, Protocol):
    """What finds regions first and names them second; see :class:`~lexiseg.models.region_model.RegionModel`."""

    @property
    def crop_templates(self) -> str | None:
        """Template set of a classifier that looks at crops, where it is another one than the words'."""

    def encode(self, images: Tensor, content: tuple[int, int] | None = None) -> Any:
        """As of every model; ``content`` is the picture's height and width, without the padding at the right and bottom."""

    def classify(self, state: Any, words: ClassWords) -> ClassifiedMasks:
        """The regions in a state, each with a score for every class."""


@dataclass(frozen=True)
class SegmentPrediction:
    """What one layer of a model says in training: masks, and a class or none for each.

    Attributes:
        class_logits: ``(B, N, K + 1)``; the last is "no object".
        masks: ``(B, N, h, w)`` mask logits.
    """

    class_logits: Tensor
    masks: Tensor


@dataclass(frozen=True)
class SegmentTargets:
    """What one photograph holds: a class and a mask for each of its T segments; T may be 0.

    Attributes:
        classes: ``(T,)`` int64, column of each in the class scores.
        masks: ``(T, H, W)`` bool.
        caption: ``(W,)`` int64, columns of the words that were said of the photograph, of whichever segment; None: its classes.

    Raises:
        ValueError: Not one mask per class.
    """

    classes: Tensor
    masks: Tensor
    caption: Tensor | None = None

    def __post_init__(self) -> None:
        """Reject parts that do not belong together."""
        if self.masks.ndim != 3 or self.classes.shape != self.masks.shape[:1]:
            raise ValueError(
                f"targets: expected classes (T,) and masks (T, H, W), got {tuple(self.classes.shape)} and "
                f"{tuple(self.masks.shape)}"
            )

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def words(self) -> Tensor:
        """Columns of the words of the photograph, each once."""
        return (self.classes if self.caption is None else self.caption).unique()

    def shown(self) -> "SegmentTargets":
        """Those that have a pixel: a segment of which a crop left nothing teaches nothing, neither its mask nor its class."""
        kept = self.masks.flatten(1).any(dim=1)
        return self if kept.all() else SegmentTargets(self.classes[kept], self.masks[kept], self.caption)


@dataclass(frozen=True)
class SegmentOutput:
    """What such a model gives in training.

    Attributes:
        predictions: Of the layers that bear a loss, first to last; the last is the answer.
    """

    predictions: tuple[SegmentPrediction, ...]

    @property
    def logits(self) -> Tensor:
        """Class maps ``(B, K, h, w)`` of the last layer, its "no object" left out."""
        last = self.predictions[-1]
        return ClassifiedMasks(last.masks, last.class_logits.softmax(-1)[..., :-1]).maps


def chunks(total: int, size: int) -> Iterator[slice]:
    """Slices that cover ``range(total)`` in pieces of at most ``size``."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))
