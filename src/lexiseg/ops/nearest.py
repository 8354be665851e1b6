"""Which pixels a coarser or finer grid takes from a finer or coarser one."""

import numpy as np
import numpy.typing as npt


def nearest_indices(length: int, samples: int) -> npt.NDArray[np.int64]:
    """Indices into ``length`` pixels that lie under the centres of ``samples`` equal parts, ascending."""
    return ((np.arange(samples) + 0.5) * length / samples).astype(np.int64)
