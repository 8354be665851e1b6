"""Which models and settings can label a picture piece by piece."""

from lexiseg.dense.multi_view import SINGLE_VIEW
from lexiseg.errors import ConfigError
from lexiseg.inference.encoding import reads_picture
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.types import Segmentable


def require_pieces(model: Segmentable, protocol: InferenceProtocol, *, masks: bool = False) -> None:
    """Refuse what needs the whole picture at once.

    Args:
        model: What reads windows.
        protocol: The settings.
        masks: Whether masks of the picture vote.

    Raises:
        ConfigError: The first thing that does.
    """
    name = type(model).__name__
    reasons = {
        f"{name} joins all windows into one map; choose another --method": reads_picture(model),
        f"{name} names regions of a whole picture; choose another model": model.names_regions,
        f"{name} reads inside masks of the whole picture; choose another --method": model.needs.masks,
        f"{name} draws labels anew over the whole picture; choose another --method": bool(
            getattr(model, "redraws", False)
        ),
        "masks take one class each over the whole picture; leave --masks out": masks,
        "protocol.pamr_steps spreads scores over the whole picture; leave --refine out": protocol.pamr_steps
        > 0,
        "protocol.area_threshold counts pixels of the whole picture; set it to 0": protocol.area_threshold
        > 0,
        "protocol.views resamples the whole picture; add --scales 1 --flip none": protocol.views
        != SINGLE_VIEW,
        "protocol.short_side resizes the whole picture; add --scale native": protocol.short_side is not None,
        "protocol.stretch squares the whole picture; choose another model": protocol.stretch is not None,
        "protocol.window is null, so that the picture is read whole; choose another model": protocol.window
        is None,
    }
    for reason, given in reasons.items():
        if given:
            raise ConfigError(f"a picture cannot be labelled piece by piece: {reason}")
