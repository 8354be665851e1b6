"""``lexiseg benchmark`` as a user types it, on the toy world."""

import json

import pytest
from PIL import Image

from lexiseg.cli.main import main
from lexiseg.data.toy.world import ToyWorld

SMALL = ("clip=toy", "toy.data.length=2", "toy.data.image_size=[48,56]", "device=cpu")


@pytest.mark.slow
def test_a_table_with_every_setting(tmp_path, capsys):
    out = tmp_path / "out"
    methods = "methods=[clip,{name: tg-clip, strength: 0.2, label: strong}]"
    assert main(["benchmark", *SMALL, methods, f"output={out}"]) == 0
    table = (out / "table.md").read_text()
    assert table.startswith("| method | toy | M parameters | GFLOP/image | s/image | FPS | score |")
    assert "| strong |" in table
    stored = json.loads((out / "results.json").read_text())
    assert [cell["method"] for cell in stored] == ["clip", "strong"]
    assert stored[1]["report"]["protocol"]["views"]["flip"] == "horizontal"
    assert stored[1]["report"]["method"]["recalibration"]["strength"] == 0.2
    assert stored[1]["report"]["clip"]["fingerprint"]
    assert "written to" in capsys.readouterr().out


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(tmp_path, monkeypatch):
    import lexiseg.recipes.benchmark as module

    measured = []
    measure = module.measure
    monkeypatch.setattr(
        module, "measure", lambda choice, *a, **k: measured.append(choice.label) or measure(choice, *a, **k)
    )
    run = ["benchmark", *SMALL, f"output={tmp_path}"]
    assert main([*run, "methods=[clip]"]) == 0
    assert main([*run, "methods=[clip,maskclip]"]) == 0
    assert measured == ["clip", "maskclip"]
    assert main([*run, "methods=[clip]", "protocol.logit_scale=3.0"]) == 0
    assert measured == ["clip", "maskclip", "clip"]


@pytest.mark.slow
def test_a_table_of_a_paper(tmp_path, capsys):
    rows = ("ablation=tg_clip_table5", "rows=[none,horizontal_maximum]")
    assert main(["benchmark", *SMALL, *rows, f"output={tmp_path}"]) == 0
    stored = json.loads((tmp_path / "results.json").read_text())
    assert [cell["method"] for cell in stored] == ["no mirror", "horizontal, maximum"]
    views = [cell["report"]["protocol"]["views"] for cell in stored]
    assert [(each["flip"], each["fusion"]) for each in views] == [("none", "mean"), ("horizontal", "maximum")]
    assert [cell["report"]["method"]["recalibration"] for cell in stored] == [None, None]
    assert "| no mirror |" in (tmp_path / "table.md").read_text()


def test_a_learned_projection_is_one_command(tmp_path):
    learned = ("ablation=sclip_table2", "rows=[learned]", "toy.data.image_size=[32,40]", "protocol.window=24")
    assert main(["benchmark", *SMALL, *learned, f"output={tmp_path}"]) == 0
    assert (tmp_path / "projections" / "toy.safetensors").is_file()
    assert "| learned, 64 images |" in (tmp_path / "table.md").read_text()


def write_folder(root):
    """Two toy scenes as photographs, label maps and a class file."""
    world = ToyWorld(partition="val", length=2, image_size=(48, 56))
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for sample in (world[0], world[1]):
        Image.fromarray(sample.image).save(root / "images" / f"{sample.name}.png")
        Image.fromarray(sample.label).save(root / "masks" / f"{sample.name}.png")
    (root / "classes.txt").write_text("\n".join(world.classes))
    return root


def test_a_folder_of_ones_own(tmp_path):
    root = write_folder(tmp_path / "mine")
    run = ["benchmark", "benchmarks=[folder]", "clip=toy", "methods=[sclip]", f"output={tmp_path / 'out'}"]
    keys = [
        f"folder.data.images={root / 'images'}",
        f"folder.data.masks={root / 'masks'}",
        f"folder.data.classes={root / 'classes.txt'}",
        "protocol.short_side=48",
        "protocol.window=48",
        "protocol.stride=24",
    ]
    assert main([*run, *keys]) == 0
    assert "| sclip |" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["methods=[sclipp]"], "no training-free method 'sclipp'"),
        (["benchmarks=[voc22]"], "no benchmark 'voc22'; choose from ade20k, camvid"),
        (["benchmarks=[voc21]", "data_root=/nowhere"], "PASCAL VOC 2012 not found as expected"),
        (["toy.data.lenght=2"], "lenght"),
        (["metods=[clip]"], "metods"),
        (["ablation=table8"], "the table table8 is one of `lexiseg sweep ablation=table8`; choose from pamr"),
        (["ablation=pamr", "methods=[clip]"], "ablation=pamr has methods of its own; leave methods out"),
        (["rows=[sclip]"], "they are of a table of a paper; name that with ablation=TABLE too"),
        (["ablation=pamr", "rows=[sum]"], "rows: pamr has no row sum; it has maskclip"),
        (["protocol.strid=3", "methods=[clip]"], "no setting strid"),
    ],
)
def test_mistakes_get_one_message(overrides, message, tmp_path, capsys):
    assert main(["benchmark", "clip=toy", f"output={tmp_path / 'out'}", *overrides]) == 2
    told = capsys.readouterr()
    assert message in told.err + told.out
    assert "Traceback" not in told.err
    assert not (tmp_path / "out").exists()


def test_a_method_that_refuses_is_left_out_and_the_others_go_on(tmp_path, capsys):
    methods = "methods=[{name: clip-surgery, strength: 0.1},clip]"
    assert main(["benchmark", *SMALL, methods, f"output={tmp_path}"]) == 0
    assert "clip-surgery left out: text-guided recalibration needs logits that are cosines" in " ".join(
        capsys.readouterr().out.split()
    )
    assert "| clip-surgery | – |" in (tmp_path / "table.md").read_text()


def test_help_names_methods_and_keys(capsys):
    assert main(["benchmark", "--help"]) == 0
    told = capsys.readouterr().out
    assert "tg-clip" in told
    assert "images_per_batch" in told
    assert "cityscapes" in told
