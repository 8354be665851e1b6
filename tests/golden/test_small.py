"""Every method still computes what it computed at a commit that agreed with all published numbers.

The published implementations cannot run here, so ``small/ours`` holds numbers of our own code: on tiny models and
inputs that follow `rule`, written by ``scripts/make_small_golden.py``, which refuses unless the full golden tests pass
in the same run. They say that nothing has moved since; that it was right then is what the full golden tests say.
"""

import numpy as np
import pytest
import torch
from small_cases import CASES, outputs

from support import SMALL_GOLDEN

TOLERANCE = 3e-5
TOLERANCES = {"spt_seg": 1e-4}
"""Of a tensor's own scale, ten times what a change of inputs and weights by 3e-7 does; SPT-SEG's gate magnifies it."""


@pytest.mark.parametrize("name", CASES)
def test_outputs_have_not_moved(name):
    ours = outputs(name)
    with np.load(SMALL_GOLDEN / "ours" / f"{name}.npz") as archive:
        stored = {key: torch.from_numpy(archive[key]) for key in archive.files}
    assert ours.keys() == stored.keys()
    for key, expected in stored.items():
        if expected.is_floating_point():
            scale = float(expected.abs().max()) if expected.numel() else 0.0
            tolerance = TOLERANCES.get(name, TOLERANCE) * scale
            torch.testing.assert_close(
                ours[key], expected, rtol=0, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}"
            )
        else:
            assert torch.equal(ours[key], expected), key


def test_every_file_is_compared():
    assert {path.stem for path in (SMALL_GOLDEN / "ours").iterdir()} == CASES.keys()
