"""A bank of real photographs: the same after a kill as without, its regions those of the photographs, one at a time refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import ViTConfig, ViTModel

import groupvit_files
from lexiseg.cli.main import main
from lexiseg.clip.loading import load_clip
from lexiseg.dense.corrclip import CorrCLIP
from lexiseg.dense.methods import build_method
from lexiseg.dense.region_bank import RegionBank
from lexiseg.errors import ConfigError, DataError, LexisegError
from lexiseg.evaluation.benchmark import Benchmark, MethodChoice, cell_key, prepare
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.recipes import bank as recipe
from lexiseg.recipes.bank import BankBuild, build_bank
from lexiseg.recipes.settings import ClipSource

FILES = ("bank.json", "keys.npy", "values.npy")


@pytest.fixture(autouse=True)
def _small(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recipe, "_GROUP", 2)


@pytest.fixture
def vit(tmp_path) -> Path:
    torch.manual_seed(0)
    size = {"hidden_size": 15, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
    model = ViTModel(ViTConfig(**size, patch_size=8, image_size=48), add_pooling_layer=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Five photographs of 48×64 in two colours, the last without any region, with a file of ids each."""
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
    for index in range(5):
        pixels = np.full((48, 64, 3), (205, 42, 40 + 20 * index), dtype=np.uint8)
        pixels[:, 20 + 3 * index :] = (48, 78, 196)
        ids = np.zeros((48, 64), dtype=np.uint8)
        if index < 4:
            ids[:30, : 20 + 3 * index], ids[10:, 24 + 3 * index :] = 7, 9
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
        Image.fromarray(ids).save(tmp_path / "masks" / f"{index}.png")
    return tmp_path / "photos"


@pytest.fixture
def build(photos, vit, tmp_path):
    """Builds a bank; settings may differ."""

    def run(out="bank", skipped=pytest.fail, **other):
        masks = str(tmp_path / "masks")
        settings = {"clip": ClipSource("toy"), "proxy": str(vit), "device": "cpu", "masks": masks, **other}
        return build_bank(BankBuild([photos], out=tmp_path / out, **settings), skipped)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_holds_key_and_value_of_every_region(build, photos, vit, tmp_path) -> None:
    summary = build()
    assert summary.counts == [2, 2, 2, 2, 0]
    assert summary.tell() == f"{tmp_path / 'bank'}: 8 regions of 5 photographs, 0 skipped"
    assert sorted(contents(tmp_path / "bank")) == sorted(FILES)
    bank = RegionBank.open(tmp_path / "bank")
    assert bank.keys.shape == (8, 15)
    assert bank.values.shape == (8, 64)
    lengths = np.linalg.norm(bank.keys.astype(np.float32), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=2e-3)
    told = json.loads((tmp_path / "bank" / "bank.json").read_text())
    assert told["clip"]["source"] == "toy"
    assert told["proxy"]["source"] == str(vit)
    assert told["masks"] == str(tmp_path / "masks")


@torch.no_grad()
def test_a_photograph_of_one_window_is_described_as_by_hand(
    build, photos, vit, tmp_path, monkeypatch
) -> None:
    whole = InferenceProtocol(short_side=48, window=None, activation="linear")
    monkeypatch.setattr(recipe, "reading_protocol", lambda model, tower: whole)
    bank = build().bank
    clip = load_clip("toy")
    encoder = CorrCLIP(clip.tower, proxy=str(vit), merge_distance=None)
    pixels = np.asarray(Image.open(photos / "1.png"))
    ids = torch.from_numpy(np.array(Image.open(tmp_path / "masks" / "1.png"))).long()
    images = encoder.normalize(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
    order = torch.zeros_like(ids)[None]
    for place, number in enumerate(sorted([7, 9], key=lambda each: int((ids == each).sum())), start=1):
        order[ids[None] == number] = place
    spoken = F.normalize(encoder.encode(images, order).features[0].flatten(1), dim=0)
    compared = F.normalize(encoder.correspondence(images)[0].flatten(1), dim=0)
    grid = F.interpolate(order[None].double(), size=(6, 8), mode="nearest").flatten()
    for row, place in enumerate((1, 2), start=2):
        inside = grid == place
        key, value = F.normalize(compared[:, inside].mean(dim=1), dim=0), spoken[:, inside].mean(dim=1)
        np.testing.assert_allclose(bank.keys[row], key.numpy(), atol=2e-3)
        np.testing.assert_allclose(bank.values[row], value.numpy(), atol=2e-3)


@pytest.mark.one_in(4)
@pytest.mark.parametrize("read", [1, 2, 3, 4])
def test_goes_on_after_a_kill_and_ends_with_the_same_bytes(build, tmp_path, monkeypatch, read) -> None:
    build("whole")
    done = []
    describe = recipe.RegionReader.__call__

    def struck(self, image, masks):
        if len(done) == read:
            raise KeyboardInterrupt
        done.append(image)
        return describe(self, image, masks)

    with monkeypatch.context() as patched:
        patched.setattr(recipe.RegionReader, "__call__", struck)
        with pytest.raises(KeyboardInterrupt):
            build()
    assert not (tmp_path / "bank" / "bank.json").exists()
    (tmp_path / "bank" / "part-000002.safetensors.part").write_bytes(b"half")
    with pytest.raises(ConfigError, match="run the build to its end"):
        RegionBank.open(tmp_path / "bank")
    again = []
    monkeypatch.setattr(
        recipe.RegionReader,
        "__call__",
        lambda self, image, masks: again.append(image) or describe(self, image, masks),
    )
    build()
    assert len(again) == 5 - 2 * (read // 2)
    assert contents(tmp_path / "bank") == contents(tmp_path / "whole")


def test_a_damaged_part_is_made_anew(build, tmp_path, monkeypatch) -> None:
    build("whole")
    write = RegionBank.write
    monkeypatch.setattr(
        RegionBank, "write", staticmethod(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    )
    with pytest.raises(KeyboardInterrupt):
        build()
    part = tmp_path / "bank" / "part-000001.safetensors"
    part.write_bytes(part.read_bytes()[:40])
    monkeypatch.setattr(RegionBank, "write", staticmethod(write))
    build()
    assert contents(tmp_path / "bank") == contents(tmp_path / "whole")


def test_a_finished_bank_stays_and_another_one_is_not_written_over(build, tmp_path, monkeypatch) -> None:
    build()
    before = contents(tmp_path / "bank")
    with monkeypatch.context() as patched:
        patched.setattr(recipe.RegionReader, "__call__", lambda *_: pytest.fail("read again"))
        assert build().counts == [2, 2, 2, 2, 0]
        with pytest.raises(
            ConfigError, match=r"bank holds a bank with masks .*masks \(now superpixels\), .*; choose another"
        ):
            build(masks="superpixels")
    assert contents(tmp_path / "bank") == before
    assert sum(build(masks="superpixels", overwrite=True).counts) > 8
    assert sorted(contents(tmp_path / "bank")) == sorted(FILES)


def test_overwriting_builds_anew_what_is_finished_and_leaves_files_of_others(
    build, photos, tmp_path, monkeypatch
) -> None:
    foreign = tmp_path / "bank" / "film.part"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_bytes(b"half a download")
    whole = (tmp_path / "masks" / "2.png").read_bytes()
    (tmp_path / "masks" / "2.png").unlink()
    assert build(skipped=lambda _: None).counts[2] == -1
    told: list[DataError] = []
    assert build(skipped=told.append).counts[2] == -1, "finished"
    (left,) = told
    assert "2.png was left out when the bank was built; --overwrite" in str(left)
    (tmp_path / "masks" / "2.png").write_bytes(whole)
    with pytest.raises(ConfigError, match=r"holds a bank with mask_files \w+ \(now \w+\); choose another"):
        build()
    assert build(overwrite=True).counts[2] == 2
    assert foreign.read_bytes() == b"half a download"


@pytest.mark.parametrize("change", ["none", "given", "anew"])
def test_a_build_that_goes_on_tries_again_what_failed_and_takes_masks_that_are_new(
    build, tmp_path, monkeypatch, change
) -> None:
    masks = tmp_path / "masks"
    whole = (masks / "2.png").read_bytes()
    if change != "anew":
        (masks / "2.png").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(
            RegionBank, "write", staticmethod(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        )
        with pytest.raises(KeyboardInterrupt):
            build(skipped=lambda _: None)
    if change == "given":
        (masks / "2.png").write_bytes(whole)
    if change == "anew":
        ids = np.array(Image.open(masks / "2.png"))
        ids[40:, 50:] = 3
        Image.fromarray(ids).save(masks / "2.png")
    told: list[DataError] = []
    summary = build(skipped=told.append)
    assert summary.counts == [2, 2, {"none": -1, "given": 2, "anew": 3}[change], 2, 0]
    assert len(told) == (change == "none")


def test_photographs_that_cannot_be_read_are_left_out(build, photos, tmp_path) -> None:
    (photos / "1.png").write_bytes(b"no picture")
    (tmp_path / "masks" / "2.png").unlink()
    told: list[DataError] = []
    summary = build(skipped=told.append)
    assert summary.counts == [2, -1, -1, 2, 0]
    assert "1.png" in str(told[0])
    assert "no file at" in str(told[1])
    assert len(told) == 2


def test_a_clip_without_patches_to_mix(build, tmp_path) -> None:
    (tmp_path / "groupvit").mkdir()
    groupvit_files.saved(tmp_path / "groupvit")
    with pytest.raises(ConfigError, match="corrclip reads patches one by one"):
        build(clip=ClipSource(str(tmp_path / "groupvit")))
    assert not (tmp_path / "bank").exists()


def test_the_beginning_of_another_bank_is_told_in_words(build, photos, tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            RegionBank, "write", staticmethod(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        )
        with pytest.raises(KeyboardInterrupt):
            build()
    (photos / "4.png").unlink()
    with pytest.raises(
        ConfigError, match=r"holds the beginning of a bank with photographs 5 \(now 4\), .* names"
    ) as error:
        build()
    assert "{" not in str(error.value)


def test_a_bank_among_the_photographs_is_refused(build, photos) -> None:
    with pytest.raises(ConfigError, match="photos is a folder of the photographs; choose one of its own"):
        build("photos")
    assert len(list(photos.iterdir())) == 5


def test_a_second_model_that_is_nowhere_beside_a_bank(build, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = build().bank.folder
    settings = {"bank": str(folder), "proxy": "nowhere/vit", "neighbours": 3}
    with pytest.raises(
        LexisegError, match=r"nowhere/vit.*; or leave proxy out: the bank .*bank brings its own"
    ):
        Pipeline.load(clip="toy", method="corrclip", settings=settings, device="cpu")


def test_no_region_at_all(build, photos, tmp_path) -> None:
    for index in range(4):
        (photos / f"{index}.png").unlink()
    with pytest.raises(DataError, match="none of the 1 photographs has a region that covers a patch"):
        build()
    assert not list((tmp_path / "bank").iterdir())


def run(capsys, *arguments: object) -> tuple[int, str]:
    status = main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return status, " ".join((captured.out + captured.err).split())


def test_from_the_command_line_to_labels(photos, vit, tmp_path, capsys) -> None:
    models = ("--clip", "toy", "--device", "cpu")
    masks = ("--masks", tmp_path / "masks")
    status, told = run(
        capsys, "bank", "build", photos, *masks, *models, "--proxy", vit, "--out", tmp_path / "bank"
    )
    assert status == 0
    assert "8 regions of 5 photographs, 0 skipped" in told
    seen = ("--classes", "red circle, blue square", "--templates", "single", *models, *masks)
    reading = ("--method", "corrclip", "--bank", tmp_path / "bank", "--out", tmp_path / "out")
    status, told = run(capsys, "predict", photos / "1.png", *seen, *reading)
    assert status == 2
    assert "expected neighbours from 1 to the 8 regions of the bank" in told
    status, told = run(capsys, "predict", photos / "1.png", *seen, *reading, "--set", "neighbours=3")
    assert status == 0
    written = json.loads((tmp_path / "out" / "1.json").read_text())
    encoder = written["method"]["encoder"]
    assert (encoder["bank"], encoder["proxy"]) == (str(tmp_path / "bank"), str(vit))
    assert encoder["merge_distance"] is None, "with a bank no regions are joined"
    assert np.asarray(Image.open(tmp_path / "out" / "1_labels.png")).shape == (48, 64)
    of_all = ("--methods", "corrclip,sclip", "--bank", tmp_path / "bank", "--out", tmp_path / "out")
    for key in ("corrclip.neighbours", "neighbours"):
        status, told = run(capsys, "compare", photos / "1.png", *seen, *of_all, "--set", f"{key}=3")
        assert status == 0
        assert "left out" not in told
    status, told = run(capsys, "compare", photos / "1.png", *seen, *of_all[:2], "--set", "neighbours=3")
    assert status == 2
    assert "none of corrclip, sclip has use for the setting 'neighbours'" in told
    sclip = ("--method", "sclip", "--bank", tmp_path / "bank")
    status, told = run(capsys, "predict", photos / "1.png", *seen, *sclip)
    assert status == 2
    assert (
        "--bank is for corrclip, and --method names sclip; name corrclip by --method, or drop --bank" in told
    )
    for wrong, sentence in ((tmp_path / "gone", "no bank at"), (photos, "no bank at")):
        status, told = run(
            capsys, "predict", photos / "1.png", *seen, "--method", "corrclip", "--bank", wrong
        )
        assert status == 2
        assert sentence in told
    status, told = run(
        capsys, "bank", "build", tmp_path / "bank", *masks, *models, "--proxy", vit, "--out", tmp_path / "b"
    )
    assert status == 2
    assert "no image in" in told


def test_every_door_takes_the_bank(build, photos, vit, tmp_path, caplog) -> None:
    build()
    pixels = np.array(Image.open(photos / "3.png"))
    ids = np.asarray(Image.open(tmp_path / "masks" / "3.png"))
    masks = np.stack([ids == 7, ids == 9])
    words = "red circle, blue square"
    settings = {"bank": str(tmp_path / "bank"), "neighbours": 3}
    pipeline = Pipeline.load(clip="toy", method="corrclip", settings=settings, device="cpu")
    segmenter = pipeline.segmenter(words)
    result = segmenter.segment(pixels, masks=masks)
    clip = load_clip("toy")
    plain = build_method("corrclip", clip.tower, proxy=str(vit), merge_distance=None)
    without = Pipeline.training_free(plain, clip).segmenter(words).segment(pixels, masks=masks)
    assert np.abs(result.scores - without.scores).max() > 1e-3
    later = segmenter.segment_encoded(
        segmenter.encode(pixels, masks=masks), "blue square, red circle, bricks"
    )
    assert later.labels.shape == (48, 64)

    class Data:
        classes = ("red circle", "blue square")

        def __len__(self) -> int:
            return 1

    benchmark = Benchmark(
        name="b",
        dataset=Data(),
        words={None: (("red circle",), ("blue square",))},
        protocol={"short_side": 72},
    )
    choice = MethodChoice(name="corrclip", settings=settings)
    given = type("Given", (), {"told": {}})()
    wide = replace(choice, protocol={"window": 72})
    with caplog.at_level("WARNING"):
        prepare(wide, benchmark, clip, masks=given)
    assert (
        "corrclip on b reads otherwise than its bank: window 72 (was 48), stride None (was 24)" in caplog.text
    )
    keys = []
    for masks_of in (str(tmp_path / "masks"), "superpixels"):
        build(masks=masks_of, overwrite=True)
        row = prepare(choice, benchmark, clip, masks=given)
        assert row.model.bank is not None
        keys.append(cell_key(choice, benchmark, row, clip, None, given))
    assert keys[0] != keys[1]
