"""Numbers with a name: what several layers need and no configuration should change."""

IGNORE_INDEX = 255
"""Label of a pixel that takes no part in training or scoring, in label maps of 8 bits: the convention of every benchmark.

Sets of more than 254 classes have another code; see `lexiseg.label_codes`.
"""

UNLABELLED = 254
"""Label of a training pixel whose class is unseen, in label maps of 8 bits; see `lexiseg.label_codes`."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Per-channel RGB mean of CLIP's own preprocessing, for values in [0, 1]."""

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Per-channel RGB standard deviation of CLIP's own preprocessing, for values in [0, 1]."""

IMAGENET_MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
"""ImageNet mean as mmsegmentation states it (0-255), which Cascade-CLIP and ZegCLIP train and test with."""

IMAGENET_STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)
"""ImageNet standard deviation as mmsegmentation states it (0-255)."""
