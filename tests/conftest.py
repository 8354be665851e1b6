"""Fixtures for all tests."""

import os

# Before the hub's client is imported, for it reads this once; its retries take half a minute.
os.environ["HF_HUB_OFFLINE"] = "1"

# What a command says of itself while it works depends on how long it takes; its own tests set it free.
os.environ["LEXISEG_QUIET"] = "1"

# Tests that run side by side share the cores, as do the processes that they start; torch reads this when it is imported. The
# process that starts them has loaded this file too, so that what they inherit is its own share.
if "PYTEST_XDIST_WORKER" in os.environ or "OMP_NUM_THREADS" not in os.environ:
    side_by_side = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // side_by_side))

import signal
from collections import Counter

import pytest
import torch
from transformers import CLIPModel

from support import tiny_clip_config


@pytest.hookimpl(tryfirst=True)  # before tests are left out for their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked ``one_in(N)`` every Nth case runs in the default suite, the others with the slow tests."""
    counted: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("one_in")
        if marker is None or item.get_closest_marker("slow"):
            continue
        test = item.nodeid.partition("[")[0]
        if counted[test] % marker.args[0]:
            item.add_marker(pytest.mark.slow)
        counted[test] += 1


@pytest.fixture
def tiny_clip() -> CLIPModel:
    """A random CLIP with weights large enough that every part of it matters."""
    torch.manual_seed(0)
    model = CLIPModel(tiny_clip_config())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def ctrl_c():
    """This process and those that it starts hear Ctrl-C, also where a shell runs the tests behind the scenes."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
