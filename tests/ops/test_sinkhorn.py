"""Balanced assignment: rows, columns, order, any scale, any number of processes."""

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

from lexiseg.ops.sinkhorn import sinkhorn
from support import golden_files, load_numbers


def cosines(samples, clusters, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randn(n, 11, generator=generator) for n in (samples, clusters))
    return F.normalize(rows, dim=1) @ F.normalize(columns, dim=1).T


def naive(logits, iterations):
    """The published alternation on probabilities, in float64."""
    shares = logits.double().softmax(dim=1)
    for _ in range(iterations):
        shares = shares / shares.sum(dim=0) * len(shares) / shares.shape[1]
        shares = shares / shares.sum(dim=1, keepdim=True)
    return shares.float()


@pytest.mark.parametrize("samples", [1, 3, 23])
@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_equals_scaling_rows_and_columns(samples, scale, iterations):
    logits = scale * cosines(samples, 7)
    torch.testing.assert_close(sinkhorn(logits, iterations=iterations), naive(logits, iterations))


def test_by_hand():
    """Both samples prefer cluster 0, one more than the other: balance gives one cluster to each."""
    shares = sinkhorn(torch.tensor([[3.0, 0.0], [5.0, 0.0]]), iterations=50)
    # Columns (1, 1) and rows (1, 1) leave one number x = e / (1 + e), for the odds' ratio e² is kept.
    e = torch.tensor(1.0).exp()
    torch.testing.assert_close(shares, torch.tensor([[1 / (1 + e), e / (1 + e)], [e / (1 + e), 1 / (1 + e)]]))


def test_many_iterations_do_balance():
    shares = sinkhorn(cosines(23, 7), iterations=50)
    torch.testing.assert_close(shares.sum(dim=0), torch.full((7,), 23 / 7), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("size", [(5, 7), (40, 8), (64, 64), (997, 64)], ids=str)
def test_columns_after_fifty_iterations(size, scale):
    samples, clusters = size
    spread = 2 * torch.rand(size, generator=torch.Generator().manual_seed(3)) - 1
    for logits in (scale * cosines(*size), scale * spread):
        shares = sinkhorn(logits, iterations=50)
        assert (shares.sum(dim=0) / (samples / clusters) - 1).abs().max() < 0.01
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(samples))


@pytest.mark.parametrize(
    "logits", [1e4 * cosines(23, 7), -1e4 * cosines(2, 7), 1e4 * (2 * torch.eye(5, 8) - 1)]
)
@pytest.mark.parametrize("iterations", [3, 50])
def test_any_scale_stays_finite(logits, iterations):
    shares = sinkhorn(logits, iterations=iterations)
    assert torch.isfinite(shares).all()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(len(logits)))


def test_a_cluster_that_no_sample_can_reach_in_float32():
    """Published: 0 / 0, then every sample in cluster 0. Two samples, gap 1.04 of cosine at scale 100."""
    logits = 100 * torch.tensor([[0.0, 0.9, 1.04], [-0.02, 1.04, 0.9]])
    assert (logits.softmax(dim=1)[:, 0] == 0).all()
    assert sinkhorn(logits).argmax(dim=1).tolist() == [2, 1]


def test_permuting_samples_permutes_rows():
    logits, order = 30 * cosines(23, 7), torch.randperm(23, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(sinkhorn(logits[order]), sinkhorn(logits)[order])


def test_no_sample_at_all():
    assert sinkhorn(torch.zeros(0, 7)).shape == (0, 7)


def test_neither_gradient_nor_change_of_the_input():
    logits = cosines(5, 3).requires_grad_()
    before = logits.detach().clone()
    shares = sinkhorn(logits)
    assert not shares.requires_grad
    assert torch.equal(logits, before)
    assert sinkhorn(before.bfloat16()).dtype == torch.bfloat16


COUNTS = ((23, 14), (23, 23), (23, 0), (2, 1), (0, 0))
"""Samples of all processes, and how many of them the first one holds."""


def _process(rank, world, store, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    for total, first in COUNTS:
        logits = 100 * cosines(total, 7)
        own = logits[:first] if rank == 0 else logits[first:]
        torch.save(sinkhorn(own), folder / f"{total}-{first}-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    mp.start_processes(_process, args=(2, tmp_path / "store", tmp_path), nprocs=2, start_method="spawn")
    for total, first in COUNTS:
        parts = [torch.load(tmp_path / f"{total}-{first}-{rank}.pt", weights_only=True) for rank in (0, 1)]
        assert len(parts[0]) == first
        torch.testing.assert_close(torch.cat(parts), sinkhorn(100 * cosines(total, 7)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("path", golden_files("pixelclip", "PixelCLIP__*.npz"), ids=lambda path: path.stem)
def test_equals_the_published_assignment(path):
    for case in load_numbers(path)["sinkhorn"].values():
        for key, expected in case.items():
            if key.startswith("iter"):
                ours = sinkhorn(case["logits"], iterations=int(key.removeprefix("iter")))
                torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))
        assert torch.equal(sinkhorn(case["logits"]).argmax(dim=1), case["hard"])
        if "hard_without_sinkhorn" in case:
            plain = sinkhorn(case["logits"], iterations=0)
            assert torch.equal(plain.argmax(dim=1), case["hard_without_sinkhorn"])
