"""What the page can read a photograph with: a trained model, and the training-free methods on its CLIP."""

import threading
from collections.abc import Mapping
from typing import Any

from lexiseg.checkpoints.run_checkpoint import trained_title
from lexiseg.clip.model import FrozenCLIP
from lexiseg.dense.method_settings import method_arguments, shared_settings
from lexiseg.dense.methods import build_method
from lexiseg.dense.names import METHODS
from lexiseg.dense.registry import BLOCKLESS_READINGS, OWN_READINGS
from lexiseg.dense.wants import left_wanting
from lexiseg.errors import ConfigError, did_you_mean
from lexiseg.inference.pipeline import Pipeline


class Readers:
    """Pipelines by title on one CLIP; the first is there from the start, the others are made when they are asked for.

    Args:
        first: What the command line names.
        checkpoint: Its checkpoint, where it is a trained model.
        templates: Of the words for all; None: those that each was published with.
        settings: Of the training-free method that was named.
    """

    def __init__(
        self,
        first: Pipeline,
        *,
        checkpoint: str | None = None,
        templates: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        told = first.method or {}
        self.default = str(told["name"]) if checkpoint is None else trained_title(checkpoint)
        self._made = {self.default: first}
        self._templates, self._lock = templates, threading.Lock()
        given = settings or {}
        self._second = {key: given[key] for key in ("proxy", "sam") if given.get(key) is not None}
        self.titles = tuple(dict.fromkeys((self.default, *self._others())))

    @property
    def first(self) -> Pipeline:
        """The one that the command line names."""
        return self._made[self.default]

    @property
    def clip(self) -> FrozenCLIP:
        """The CLIP that all stand on."""
        return self.first.clip

    def __getitem__(self, title: str) -> Pipeline:
        """One of :attr:`titles`.

        Raises:
            ConfigError: No such title.
            LexisegError: A second model that cannot be loaded.
        """
        if title not in self.titles:
            near = did_you_mean(title, self.titles)
            raise ConfigError(f"no method '{title}'{near or '; choose one of ' + ', '.join(self.titles)}")
        with self._lock:
            if title not in self._made:
                settings = method_arguments(title, shared_settings(title, self._second))
                method = build_method(title, self.clip.tower, **settings)
                self._made[title] = Pipeline.training_free(method, self.clip, templates=self._templates)
            return self._made[title]

    def _others(self) -> tuple[str, ...]:
        """Methods that fit the tower and need no model that nobody named; masks are for the page to choose."""
        if not isinstance(self.clip, FrozenCLIP):  # a program brings words alone
            return ()
        tower = self.clip.tower
        if tower.own_reading is not None:
            return ()
        named = {key: key in self._second for key in ("proxy", "sam")}
        fitting = (
            BLOCKLESS_READINGS if not tower.has_blocks else [n for n in METHODS if n not in OWN_READINGS]
        )
        return tuple(name for name in fitting if not left_wanting(name, masks=True, **named))
