"""A module of `integrations/` as its tool loads it, with a model that knows colours."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import lexiseg
from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from segmenter_fakes import ColourModel, colour_embeddings


def load_integration(file: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(Vocabulary, "embed", lambda self, clip, cache=None: colour_embeddings(self))
    pipeline = Pipeline(ColourModel(), SimpleNamespace(source="toy"), InferenceProtocol(), ("{}",))
    monkeypatch.setattr(lexiseg.Pipeline, "load", lambda *args, **kwargs: pipeline)
    return module
