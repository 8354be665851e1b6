"""lexiseg: name things in words and get back which pixel is what."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Loaded when first asked for: `import lexiseg` and `lexiseg --help` must not wait for torch.
_HOME = {
    "segment": "lexiseg.inference.pipeline",
    "Pipeline": "lexiseg.inference.pipeline",
    "Segmenter": "lexiseg.inference.segmenter",
    "Segmentation": "lexiseg.inference.result",
    "InferenceProtocol": "lexiseg.inference.protocol",
    "PretrainedSegmenter": "lexiseg.inference.pretrained",
    "load_clip": "lexiseg.clip.loading",
    "Vocabulary": "lexiseg.clip.vocabulary",
    "CascadeCLIP": "lexiseg.models.cascade_clip",
    "CascadeSettings": "lexiseg.models.cascade_clip",
    "ClassSplit": "lexiseg.types",
    "LexisegError": "lexiseg.errors",
    "read_image": "lexiseg.data.io",
    "register_task": "lexiseg.inference.pipeline_task",
}

if TYPE_CHECKING:
    from lexiseg.clip.loading import load_clip
    from lexiseg.clip.vocabulary import Vocabulary
    from lexiseg.data.io import read_image
    from lexiseg.errors import LexisegError
    from lexiseg.inference.pipeline import Pipeline, segment
    from lexiseg.inference.pipeline_task import register_task
    from lexiseg.inference.pretrained import PretrainedSegmenter
    from lexiseg.inference.protocol import InferenceProtocol
    from lexiseg.inference.result import Segmentation
    from lexiseg.inference.segmenter import Segmenter
    from lexiseg.models.cascade_clip import CascadeCLIP, CascadeSettings
    from lexiseg.types import ClassSplit

__all__ = [
    "CascadeCLIP",
    "CascadeSettings",
    "ClassSplit",
    "InferenceProtocol",
    "LexisegError",
    "Pipeline",
    "PretrainedSegmenter",
    "Segmentation",
    "Segmenter",
    "Vocabulary",
    "load_clip",
    "read_image",
    "register_task",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'lexiseg' has no attribute '{name}'")
