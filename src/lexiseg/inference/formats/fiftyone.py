"""FiftyOne's ``Segmentation`` and ``Heatmap``."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lexiseg.errors import LexisegError
from lexiseg.lazy import require_extra

if TYPE_CHECKING:
    from fiftyone import Heatmap, Segmentation

    from lexiseg.inference import result

_EIGHT_BIT = 255


def segmentation(found: "result.Segmentation") -> "Segmentation":
    """A mask of class ids shifted by one, uint8 or uint16; 0, which is not drawn, is no class.

    Raises:
        ConfigError: FiftyOne is not installed.
        LexisegError: More classes than 16 bits tell apart.
    """
    targets = found.mask_targets()
    highest = max(targets, default=0)
    if highest > np.iinfo(np.uint16).max:
        raise LexisegError(f"{highest} classes do not fit FiftyOne's masks, which hold 65535; give fewer")
    table = np.array([index + 1 if index + 1 in targets else 0 for index in range(len(found.id2label))])
    mask: npt.NDArray[np.generic] = table.astype(np.uint8 if highest <= _EIGHT_BIT else np.uint16)[
        found.labels
    ]
    made: Segmentation = require_extra("fiftyone", "fiftyone", "FiftyOne's labels").Segmentation(mask=mask)
    return made


def heatmap(found: "result.Segmentation") -> "Heatmap":
    """Scores in [0, 1] as a map.

    Raises:
        ConfigError: FiftyOne is not installed.
        LexisegError: There are no scores.
    """
    scores = found.require_scores()
    made: Heatmap = require_extra("fiftyone", "fiftyone", "FiftyOne's labels").Heatmap(
        map=scores, range=[0, 1]
    )
    return made
