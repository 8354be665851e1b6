"""Which proposer and which region classifier a composed model is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lexiseg.models.proposers.registry import PROPOSERS
from lexiseg.models.region_classifiers.registry import CLASSIFIERS
from lexiseg.models.region_parts import complete_part
from lexiseg.plain_settings import require_plain_settings


@dataclass(frozen=True)
class TwoStageSettings:
    """A proposer and a region classifier by name, each with settings of its own; those that are not given are its defaults.

    Attributes:
        name: ``two_stage``.
        proposer: ``name`` of :data:`~lexiseg.models.proposers.registry.PROPOSERS`, and its settings.
        classifier: ``name`` of :data:`~lexiseg.models.region_classifiers.registry.CLASSIFIERS`, and its settings.
    """

    name: str = "two_stage"
    proposer: Mapping[str, Any] = field(default_factory=lambda: {"name": "mask2former"})
    classifier: Mapping[str, Any] = field(default_factory=lambda: {"name": "pooled_queries"})

    def __post_init__(self) -> None:
        """Complete both parts and refuse what does not exist; ``ConfigError`` names it."""
        require_plain_settings(self, "model")
        object.__setattr__(self, "proposer", complete_part(PROPOSERS, self.proposer, "model.proposer"))
        object.__setattr__(
            self, "classifier", complete_part(CLASSIFIERS, self.classifier, "model.classifier")
        )
