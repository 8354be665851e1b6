"""Programs for other runtimes: the same numbers at any size, nothing unused in them, nothing left where they differ."""

import io
import json
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import lexiseg
from lexiseg.checkpoints import program_folder
from lexiseg.cli.main import main
from lexiseg.errors import LexisegError
from lexiseg.export.onnx_program import write_onnx
from lexiseg.export.parity import Parity, ParityCase, check_parity
from lexiseg.export.program import trace
from lexiseg.export.torch_program import write_torch
from lexiseg.inference.exported import OnnxProgram, TorchProgram
from lexiseg.recipes import export_program
from program_cases import CLASSES, save_checkpoint, variant

SIZES = [
    # batch, rows, columns, classes: alone, the tower's own grid, whole windows of three, more words than one pass takes
    (1, 5, 5, 1),
    (3, 4, 11, 7),
    (1, 6, 9, 2),
    (2, 13, 4, 1031),
]


@pytest.fixture(
    scope="module",
    params=[
        "cascade_clip",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("frozen_clip", "spt_seg")),
    ],
)
def exported(request, tmp_path_factory):
    """The live model and both files of its program."""
    folder = tmp_path_factory.mktemp("program")
    model = variant(request.param)
    program = trace(model)
    write_torch(program, folder / "model.pt2")
    write_onnx(program, folder / "model.onnx")
    return model, folder


@pytest.fixture(scope="module")
def runners(exported):
    model, folder = exported
    return model, {
        "torch": TorchProgram(folder / "model.pt2", torch.device("cpu")),
        "onnx": OnnxProgram(folder / "model.onnx", "cpu"),
    }


def inputs(batch, rows, columns, classes):
    generator = torch.Generator().manual_seed(rows)
    images = torch.randn(batch, 3, 8 * rows, 8 * columns, generator=generator)
    return images, F.normalize(torch.randn(classes, 16, generator=generator), dim=-1)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", ["torch", "onnx"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_program_is_the_model_at_every_size(runners, kind, size):
    model, programs = runners
    images, text = inputs(*size)
    with torch.no_grad():
        live = model(images, text).logits
    assert live.abs().max() > 0.01
    torch.testing.assert_close(programs[kind](images, text), live, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_the_parity_check_agrees(runners, kind):
    model, programs = runners
    parity = check_parity(model, programs[kind], words=inputs(1, 5, 5, 3)[1])
    parity.require()
    assert parity.difference <= 1e-5
    assert len({(case.height, case.width) for case in parity.cases}) == 3
    assert [case.classes for case in parity.cases] == [19, 2, 171]


def test_nothing_unused_and_no_path_of_this_machine(exported):
    _, folder = exported
    program = torch.export.load(folder / "model.pt2")
    read = {node.name for node in program.graph.find_nodes(op="placeholder") if node.users}
    held = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    assert held.keys() <= read
    assert set(held.values()) == set(program.state_dict)
    assert not any("unused" in name or "position_ids" in name for name in program.state_dict)
    graph = onnx.load(folder / "model.onnx").graph
    taken = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= taken
    for path in (folder / "model.pt2", folder / "model.onnx"):
        content = path.read_bytes()
        for place in (Path(lexiseg.__file__).parent, Path(torch.__file__).parent):
            assert str(place).encode() not in content


def test_names_and_sizes_in_the_onnx_file(exported):
    _, folder = exported
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model)
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes["images"] == ["batch", 3, "height", "width"]
    assert shapes["text"] == ["classes", 16]
    assert shapes["logits"][:2] == ["batch", "classes"]
    assert all(isinstance(size, str) for size in shapes["logits"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits + 2e-4, "logits differ by up to 2.0e-04 .allowed 1e-04."),
        (lambda logits: logits * float("nan"), "logits differ by up to nan"),
        (lambda logits: logits[..., 1:], r"gives logits \(1, 19, 5, 4\), the live model \(1, 19, 5, 5\)"),
    ],
)
def test_a_program_that_differs_is_refused(change, message):
    model = variant("zegclip")
    with pytest.raises(LexisegError, match=message):
        check_parity(model, lambda images, text: change(model(images, text).logits)).require()


def test_labels_are_weighed_by_pixels():
    small = ParityCase(1, 10, 10, 2, difference=0.0, logit=1.0, labels=0.003)
    large = ParityCase(2, 10, 145, 2, difference=5e-5, logit=1.0, labels=0.0)
    parity = Parity((small, large))
    assert parity.labels == pytest.approx(0.3 / 3000)
    parity.require()
    with pytest.raises(LexisegError, match=r"labels of 0\.3000 % of pixels \(allowed 0\.01 %\)"):
        Parity((small,)).require()


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("LEXISEG_CACHE", str(tmp_path / "cache"))
    return save_checkpoint(tmp_path, "concat")


def test_the_command_writes_a_folder_and_says_how_far_it_is(checkpoint, tmp_path, capsys):
    out = tmp_path / "deep" / "program"
    assert main(["export", str(checkpoint), "--to", "torch", "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 images of 40×40, 19 classes" in printed
    assert "largest difference from the live model" in printed
    assert sorted(path.name for path in out.iterdir()) == [
        "model.pt2",
        "program.json",
        "text_embeddings.safetensors",
    ]
    card = json.loads((out / "program.json").read_text())
    assert card["patch_size"] == 8
    assert card["smallest_side"] == 16
    assert card["mean"] == pytest.approx((123.675, 116.28, 103.53))
    assert card["split"]["classes"] == list(CLASSES)
    assert card["protocol"]["precision"] == "float32"
    assert card["parity"]["largest_difference"] <= 1e-5
    assert load_file(out / "text_embeddings.safetensors")["vectors"].shape == (3, 16)
    assert [path.name for path in out.parent.iterdir()] == ["program"]


def test_where_they_differ_nothing_stays(checkpoint, tmp_path, monkeypatch, capsys):
    bad = Parity((ParityCase(1, 8, 8, 2, difference=1.0, logit=2.0, labels=0.5),))
    monkeypatch.setattr(export_program, "trace", lambda model: io.BytesIO())
    monkeypatch.setattr(export_program, "write_torch", lambda program, path: path.write_bytes(b"written"))
    monkeypatch.setattr(export_program, "TorchProgram", lambda path, device: None)
    monkeypatch.setattr(export_program, "check_parity", lambda model, run, words: bad)
    before = set(tmp_path.iterdir())
    assert main(["export", str(checkpoint), "--to", "torch", "--out", str(tmp_path / "out")]) == 2
    assert "logits differ by up to 1.0e+00" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "cache"}


def test_what_is_there_is_not_overwritten(checkpoint, capsys):
    assert main(["export", str(checkpoint), "--to", "onnx", "--out", str(checkpoint.parent)]) == 2
    assert "is there already; choose the name of a new folder" in capsys.readouterr().err


def test_absent_packages_are_named(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program_folder, "find_spec", lambda name: None if name == "onnxscript" else name)
    assert main(["export", str(checkpoint), "--to", "onnx", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "needs onnxscript, not installed here; run `pip install 'lexiseg[export]'`" in told
    assert not (tmp_path / "out").exists()
