"""The random state of a training run, kept in its checkpoints so that a run resumes exactly."""

from collections.abc import Mapping
from typing import Any

import torch

RANDOM_STATE_KEY = "rng"
"""Where it stands in a checkpoint."""


def random_state() -> dict[str, Any]:
    """State of torch's generators, tensors only."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Go on drawing where :func:`random_state` was taken."""
    torch.set_rng_state(state["cpu"].cpu())
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
