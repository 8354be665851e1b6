"""Released checkpoints through the commands: imported they give the published masks, exported they are the same bytes."""

from pathlib import Path

import pytest
import torch
from published_cases import assert_close, clip_visual_state, decoder_heads, load, vision_heads

from lexiseg.checkpoints.published_checkpoint import SIDECAR_SUFFIX
from lexiseg.cli.main import main
from lexiseg.inference.pipeline import Pipeline
from support import golden_folders

KINDS = {"cascade": "cascade_clip", "zegclip": "zegclip", "spt": "spt_seg"}
FOLDERS = [folder for kind in KINDS for folder in golden_folders(kind)]

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not FOLDERS, reason="LEXISEG_GOLDEN names no cascade, zegclip or spt folder"),
    pytest.mark.parametrize("folder", FOLDERS, ids=str),
]

_TEXT_WIDTH, _TEXT_LENGTH, _VOCABULARY = 8, 13, 97


def clip_file(folder: Path, target: Path) -> Path:
    """A CLIP in OpenAI's layout whose image tower is the checkpoint's own; its text tower is never asked anything."""
    state = clip_visual_state(load(folder, "ckpt_inductive.pth")["state_dict"])
    width, embed = _TEXT_WIDTH, state["visual.proj"].shape[1]
    state |= {
        "token_embedding.weight": torch.zeros(_VOCABULARY, width),
        "positional_embedding": torch.zeros(_TEXT_LENGTH, width),
        "text_projection": torch.zeros(width, embed),
        "logit_scale": torch.zeros(()),
    }
    block = "transformer.resblocks.0."
    for name in ("ln_final", f"{block}ln_1", f"{block}ln_2"):
        state |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    for name, (inputs, outputs) in {
        f"{block}attn.out_proj": (width, width),
        f"{block}mlp.c_fc": (width, 4 * width),
        f"{block}mlp.c_proj": (4 * width, width),
    }.items():
        state |= {f"{name}.weight": torch.zeros(outputs, inputs), f"{name}.bias": torch.zeros(outputs)}
    state[f"{block}attn.in_proj_weight"] = torch.zeros(3 * width, width)
    state[f"{block}attn.in_proj_bias"] = torch.zeros(3 * width)
    torch.save(state, target)
    return target


def imported(folder: Path, into: Path, source: Path | None = None) -> Path:
    into.mkdir(exist_ok=True)
    checkpoint = into / "model.ckpt"
    flags = {
        "--clip": clip_file(folder, into / "clip.pt"),
        "--vision-heads": vision_heads(folder),
        "--text-heads": 1,
        "--decoder-heads": decoder_heads(folder),
        "--out": checkpoint,
    }
    arguments = [str(part) for pair in flags.items() for part in pair]
    assert main(["import", str(source or folder / "ckpt_inductive.pth"), *arguments]) == 0
    return checkpoint


def test_imported_model_gives_the_published_masks(folder, tmp_path):
    loaded = Pipeline.load(imported(folder, tmp_path), device="cpu")
    inputs, expected = load(folder, "inputs.pt"), load(folder, "eval_inductive.pt")
    assert loaded.info.model["name"] == KINDS[folder.name] if folder.name in KINDS else True
    assert loaded.info.split.classes == tuple(load(folder, "ckpt_inductive.pth")["meta"]["CLASSES"])
    with torch.no_grad():
        raw = inputs["img_u8_nhwc_rgb"].movedim(-1, 1).float()
        assert_close(loaded.model.normalize(raw), inputs["img"], "normalised image")
        out = loaded.model(inputs["img"], inputs["text"].float())
    for index, theirs in enumerate(expected["stage_mask_BChw"]):
        assert_close(out.stage_logits[index], theirs, f"stage {index + 1}")
    assert_close(out.logits, expected["stage_mask_sum"], "masks")


def test_export_and_import_give_the_same_bytes(folder, tmp_path):
    checkpoint = imported(folder, tmp_path / "first")
    exported = tmp_path / "exported.pth"
    assert main(["export", str(checkpoint), "--to", "published", "--out", str(exported)]) == 0
    theirs = load(folder, "ckpt_inductive.pth")["state_dict"]
    ours = torch.load(exported, weights_only=True)["state_dict"]
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert ours[name].numpy().tobytes() == tensor.contiguous().numpy().tobytes(), name
    again = imported(folder, tmp_path / "second", source=exported)
    first, second = (torch.load(path, weights_only=True)["state_dict"] for path in (checkpoint, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    sidecars = [path.with_name(path.name + SIDECAR_SUFFIX).read_bytes() for path in (checkpoint, again)]
    assert len(sidecars[0]) == len(sidecars[1])


@pytest.mark.skipif(not golden_folders("clip"), reason="LEXISEG_GOLDEN names no clip folder")
def test_the_clip_behind_the_models_is_recognised(folder, tmp_path):
    """cascade and zegclip stand on the CLIP of the clip folder; spt has another patch embedding and is refused."""
    clip = golden_folders("clip")[0] / "tiny_clip_p16.pt"
    published = load(folder, "ckpt_inductive.pth")["state_dict"]
    same = torch.equal(
        load(clip.parent, clip.name)["visual.class_embedding"], published["backbone.class_embedding"]
    )
    arguments = [
        "--clip",
        str(clip),
        "--vision-heads",
        str(vision_heads(folder)),
        "--out",
        str(tmp_path / "x.ckpt"),
    ]
    arguments += ["--decoder-heads", str(decoder_heads(folder))]
    status = main(["import", str(folder / "ckpt_inductive.pth"), *arguments])
    patch = (
        load(clip.parent, clip.name)["visual.conv1.weight"].shape == published["backbone.conv1.weight"].shape
    )
    assert status == (0 if same and patch else 2)
