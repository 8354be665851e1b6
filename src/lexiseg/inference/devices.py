"""Where a model runs: what the user calls it, and whether it is there."""

import torch

from lexiseg.errors import ConfigError


def pick_device(device: str) -> torch.device:
    """``auto`` takes a CUDA device if there is one, else the processor; MPS only on request.

    Raises:
        ConfigError: No such device, or none here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = str(device).partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdecimal()):
        raise ConfigError(
            f"device '{device}': expected auto, cpu, cuda, cuda:1 (the second GPU of several) or mps; {_here()}"
        )
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{device}' cannot be used: {_here()}; choose of these, or auto") from error
    return chosen


def _here() -> str:
    """The devices of this machine, in words."""
    found = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return f"this machine has {', '.join(found)}"
