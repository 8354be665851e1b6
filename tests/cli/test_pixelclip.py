"""``lexiseg pixelclip`` on a folder of photographs: from masks to a CLIP that predicts, and every mistake in one message."""

import json

import numpy as np
import pytest
from PIL import Image

from lexiseg.cli.composing import compose_config
from lexiseg.cli.main import main
from lexiseg.data.toy.world import TOY_CLASSES
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.store import MaskStore
from lexiseg.models.pixel_clip_settings import PixelCLIPOptimSettings, PixelCLIPSettings
from lexiseg.recipes.conf_files import choices
from lexiseg.recipes.pixelclip import read_words
from mask_cases import photograph

SMALL = [
    "clip=toy",
    "trainer=cpu",
    "mask_data.views.short_side=40",
    "mask_data.views.crop=32",
    "mask_data.views.size=24",
    "mask_data.views.mask_size=24",
    "mask_data.batch_size=2",
    "mask_data.num_workers=0",
    "model.image_size=24",
    "model.mask_size=24",
    "model.clusters=31",
    "model.decoder_channels=32",
    "trainer.max_steps=2",
    "pictures.images=2",
    "pictures.words=[red circle, bricks]",
]
"""Far more clusters than a batch of two photographs has masks."""


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for seed, name in enumerate(("a.png", "b.png", "deep/c.png")):
        Image.fromarray(photograph(47, 61, seed)).save(folder / name)
    return folder


def bands(count):
    masks = np.zeros((count, 47, 61), dtype=bool)
    for number in range(count):
        masks[number, :, number * 61 // count : (number + 1) * 61 // count] = True
    return MaskSet.from_masks(masks)


def write_masks(folder, **counts):
    for stem, count in counts.items():
        (image,) = folder.rglob(f"{stem}.png")
        MaskStore().write(image, bands(count), {})


@pytest.fixture
def tune(capsys, tmp_path, monkeypatch):
    """Runs the command; returns status, everything printed in one line, and the run folder."""
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))

    def run(*overrides):
        status = main(["pixelclip", *SMALL, f"output_dir={tmp_path / 'run'}", *map(str, overrides)])
        captured = capsys.readouterr()
        printed = " ".join((captured.out + captured.err).split())
        assert "Traceback" not in printed
        return status, printed, tmp_path / "run"

    return run


@pytest.mark.slow
def test_from_photographs_to_a_clip_that_predicts(tune, photos, capsys, tmp_path):
    write_masks(photos, a=3, b=2, c=4)
    status, printed, folder = tune(f"images={photos}")
    assert status == 0, printed
    assert f"done: the tuned CLIP is {folder / 'clip'}" in printed
    assert json.loads((folder / "result.json").read_text())["images"] == 3
    with Image.open(folder / "clusters.png") as picture:
        assert picture.width > 300
    flags = ["--classes", "red circle, bricks", "--clip", folder / "clip", "--method", "pixelclip"]
    flags += ["--templates", "single", "--masks", photos, "--out", tmp_path / "out"]
    assert main(["predict", str(photos / "a.png"), *map(str, flags)]) == 0
    labels = np.asarray(Image.open(tmp_path / "out" / "a_labels.png"))
    for band in bands(3):
        assert len(np.unique(labels[band])) == 1, "each mask of `lexiseg masks build` has one class"
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    assert content["protocol"]["masks"] == str(photos / "a.png.masks.json")


@pytest.mark.slow
def test_a_run_stopped_before_its_result_writes_its_clip_anew(tune, photos):
    write_masks(photos, a=3, b=2, c=4)
    status, printed, folder = tune(f"images={photos}")
    assert status == 0, printed
    written = sorted(path.name for path in (folder / "clip").iterdir())
    (folder / "result.json").unlink()
    (folder / "clip" / "tokenizer.json").write_text("{")
    (folder / "clip" / "left").write_text("")
    status, printed, _ = tune(f"images={photos}")
    assert status == 0, printed
    assert sorted(path.name for path in (folder / "clip").iterdir()) == written
    json.loads((folder / "clip" / "tokenizer.json").read_text())


def test_masks_made_on_the_way(tune, photos):
    (photos / "broken.png").write_bytes(b"no picture")
    status, printed, folder = tune(f"images={photos}", "masks=superpixels", "trainer.max_steps=1")
    assert status == 0, printed
    assert "skipped: " in printed
    assert "broken.png" in printed
    assert (folder / "masks" / "deep" / "c.png.masks.json").is_file()
    assert not list(photos.rglob("*.json"))


def test_photographs_without_a_mask_cost_nothing(tune, photos):
    """One has an empty mask file, one has none at all: both are counted, the rest is learnt from."""
    write_masks(photos, a=3, b=0)
    status, printed, folder = tune(f"images={photos}")
    assert status == 0, printed
    assert "note: 1 of 3 images have no mask file and are left out" in printed
    assert "note: 1 of 2 images looked at have no mask (b.png)" in printed
    assert json.loads((folder / "result.json").read_text())["without_masks"] == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["images=EMPTY"], "no image in"),
        (["images=/nowhere/photos"], "no folder of photographs at /nowhere/photos; say images=FOLDER"),
        (["images=PHOTOS"], "none of 3 images has a mask file"),
        (["images=PHOTOS", "masks=EMPTY"], "make masks first: `lexiseg masks build`"),
        (["images=EMPTY", "masks=superpixels"], "no image in"),
        (["experiment=pixelclip/toy", "images=PHOTOS"], "images: this mask_data reads no folder"),
        (["images=PHOTOS", "model.clusters=0"], "model.clusters: expected from 1 to 65536, got 0"),
        (["images=PHOTOS", "model.prompt_length=80"], "77"),
        (["images=PHOTOS", "optim.lr=0"], "optim.lr: expected above 0"),
        (["images=PHOTOS", "model.cluster=3"], "did you mean model.clusters?"),
        (["images=PHOTOS", "clip.source=/nowhere/clip"], "neither a file, nor a folder"),
        (["images=PHOTOS", "resume=/nowhere/last.ckpt"], "resume=/nowhere/last.ckpt: no such file"),
    ],
)
def test_mistakes(tune, photos, tmp_path, overrides, message):
    (tmp_path / "empty").mkdir()
    if "PHOTOS" in overrides[0] and len(overrides) > 1 and "masks" not in overrides[1]:
        write_masks(photos, a=3, b=2, c=4)
    places = {"PHOTOS": str(photos), "EMPTY": str(tmp_path / "empty")}
    for name, place in places.items():
        overrides = [override.replace(name, place) for override in overrides]
    status, printed, folder = tune(*overrides)
    assert status == 2
    assert printed.startswith("lexiseg: ")
    assert message in printed
    assert not (folder / "last.ckpt").exists()


def test_masks_of_another_photograph(tune, photos):
    write_masks(photos, a=3, b=2, c=4)
    (photos / "b.png.masks.json").write_bytes((photos / "a.png.masks.json").read_bytes())
    status, printed, folder = tune(f"images={photos}")
    assert status == 2
    assert "belongs to the image 'a.png', not to 'b.png'" in printed
    assert not folder.exists()


def test_every_mask_file_is_empty(tune, photos):
    write_masks(photos, a=0, b=0, c=0)
    status, printed, _ = tune(f"images={photos}")
    assert status == 2
    assert "none of 3 images looked at has a mask" in printed


def test_torchrun_makes_no_masks(tune, photos, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    status, printed, folder = tune(f"images={photos}", "masks=superpixels")
    assert status == 2
    assert "run `lexiseg masks build`" in printed
    assert not folder.exists(), "nothing half-made"


PRESETS = [
    *(f"experiment=pixelclip/{name}" for name in choices("pixelclip", "experiment")),
    *(
        f"{group}={name}"
        for group in ("variant", "model", "mask_data")
        for name in choices("pixelclip", group)
    ),
    "trainer=bf16",
    "trainer=ddp",
    "logger=wandb",
]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_compose(preset):
    config = compose_config("pixelclip", [preset])
    settings = PixelCLIPSettings(**config.model)
    PixelCLIPOptimSettings(**config.optim)
    sides = {config.mask_data.views.size, settings.image_size}
    assert len(sides) == 1 or not preset.startswith("experiment"), "views have the tower's size"
    if preset.startswith("variant"):
        assert settings != PixelCLIPSettings(), "a variant changes something"


def test_defaults_are_the_released_ones():
    config = compose_config("pixelclip", [])
    assert PixelCLIPSettings(**config.model) == PixelCLIPSettings()
    assert (config.trainer.max_steps, config.mask_data.batch_size, config.optim.final_factor) == (
        10_000,
        48,
        0.5,
    )
    assert compose_config("pixelclip", ["seed=3"]).mask_data.seed == 3


def test_words(tmp_path):
    assert read_words("toy") == TOY_CLASSES
    assert read_words("voc20")[0] == "aeroplane"
    assert read_words(["cat", "dog"]) == ("cat", "dog")
    (tmp_path / "words.txt").write_text("cat; kitten\ndog\n")
    assert read_words(str(tmp_path / "words.txt")) == ("cat", "dog")
    with pytest.raises(DataError, match="no class list named 'birds'"):
        read_words("birds")


def test_help_and_config(capsys):
    assert main(["pixelclip", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(
        word in told for word in ("images=FOLDER", "vit_b16_dino", "no_momentum", "toy_folder", "resume:")
    )
    assert main(["pixelclip", "--config", "images=photos", "masks=elsewhere"]) == 0
    told = capsys.readouterr().out
    assert "root: photos" in told
    assert "folder: elsewhere" in told
    with pytest.raises(ConfigError, match="experiment=nothing: .* choose from convnext_base, toy"):
        compose_config("pixelclip", ["experiment=pixelclip/nothing"])
