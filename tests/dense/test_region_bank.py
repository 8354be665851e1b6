"""A bank on disk: looked up as one sorts by hand, and refused where it is damaged or another model's."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lexiseg.dense import region_bank
from lexiseg.dense.region_bank import FORMAT, RegionBank, identify
from lexiseg.errors import ConfigError, DataError

REGIONS, WIDTH, SPACE = 23, 7, 5


def models() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.Linear(2, 3), nn.Linear(3, 2)


def numbers() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    keys = F.normalize(torch.randn(REGIONS, WIDTH, generator=generator), dim=1).half()
    return keys, torch.randn(REGIONS, SPACE, generator=generator).half()


@pytest.fixture
def bank(tmp_path):
    tower, proxy = models()
    about = {
        "format": FORMAT,
        "clip": {"source": "some/clip", "weights": identify(tower)},
        "proxy": {"source": "some/dino", "weights": identify(proxy)},
        "method": {"sharpness": 4.0, "spatial_blocks": None},
        "protocol": {"short_side": 336},
        "regions": REGIONS,
        "width": {"keys": WIDTH, "values": SPACE},
    }
    keys, values = numbers()
    RegionBank.write(tmp_path / "bank", about, {"keys": iter(keys.split(9)), "values": iter(values.split(4))})
    return tmp_path / "bank"


@pytest.mark.parametrize("held", [1, 8, REGIONS])
def test_looks_up_what_a_naive_search_finds(bank, monkeypatch, held) -> None:
    monkeypatch.setattr(region_bank, "_PART_BYTES", 4 * WIDTH * held)
    opened = RegionBank.open(bank)
    assert isinstance(opened.keys, np.memmap)
    assert isinstance(opened.values, np.memmap)
    keys, values = (each.float() for each in numbers())
    asked = F.normalize(torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(2)), dim=1)
    for query, said in zip(asked, opened.look_up(asked, neighbours=4), strict=True):
        best = sorted(range(REGIONS), key=lambda index: -float(query @ keys[index]))[:4]
        torch.testing.assert_close(said, F.normalize(values[best].mean(dim=0), dim=0))


def test_models_are_known_by_their_weights(bank) -> None:
    opened, (tower, proxy) = RegionBank.open(bank), models()
    assert opened.proxy == "some/dino"
    opened.require(tower, proxy, neighbours=REGIONS, method={"sharpness": 4.0, "spatial_blocks": None})
    with pytest.raises(
        ConfigError, match=r"the CLIP was some/clip with the weights \w+, and is one with .*--clip"
    ):
        opened.require(nn.Linear(2, 3), proxy, neighbours=1, method={})
    with pytest.raises(ConfigError, match=r"the second vision model was some/dino .*--proxy"):
        opened.require(tower, nn.Linear(3, 2), neighbours=1, method={})
    with pytest.raises(ConfigError, match="whose weights can be told from others', got a function"):
        opened.require(tower, lambda images: images, neighbours=1, method={})
    for wrong in (0, REGIONS + 1):
        with pytest.raises(ConfigError, match=f"from 1 to the 23 regions of the bank .*, got {wrong}"):
            opened.require(tower, proxy, neighbours=wrong, method={})
    with pytest.raises(
        ConfigError, match=r"was built with sharpness 4.0, and .* be read with 5.0; leave sharp"
    ):
        opened.require(tower, proxy, neighbours=1, method={"sharpness": 5.0})


def test_no_bank_and_half_a_bank(bank, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"no bank at .*gone: expected a folder with bank.json"):
        RegionBank.open(tmp_path / "gone")
    (bank / "bank.json").unlink()
    with pytest.raises(ConfigError, match="run the build to its end"):
        RegionBank.open(bank)


@pytest.mark.parametrize("name", ["keys", "values"])
@pytest.mark.parametrize("length", [0, 30, 140])
def test_files_that_were_cut_short(bank, name, length) -> None:
    path = bank / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=rf"{name}.npy: missing, cut short or no array of numpy's"):
        RegionBank.open(bank)
    path.unlink()
    with pytest.raises(DataError, match=rf"{name}.npy: missing"):
        RegionBank.open(bank)


def test_files_of_another_bank_and_of_objects(bank) -> None:
    np.save(bank / "values.npy", np.zeros((REGIONS, SPACE + 1), dtype=np.float16))
    with pytest.raises(DataError, match=r"expected float16 of shape \(23, 5\), got float16 of \(23, 6\)"):
        RegionBank.open(bank)
    np.save(bank / "values.npy", np.array([{}] * REGIONS, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="no array of numpy's"):
        RegionBank.open(bank)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"format": 7}, "a bank of format 7, and this reads 1"),
        ({"clip": "x"}, "not the record of a bank"),
        ({"method": None}, "not the record of a bank"),
        ({"regions": None}, "not the record of a bank"),
        ({"width": {"keys": 7}}, "not the record of a bank"),
    ],
)
def test_records_that_are_none(bank, changed, told) -> None:
    path = bank / "bank.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, **changed}))
    with pytest.raises(DataError, match=told):
        RegionBank.open(bank)
    path.write_text("[1")
    with pytest.raises(DataError, match="not the record of a bank"):
        RegionBank.open(bank)
