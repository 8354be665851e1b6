"""Files of ZegFormer and OVSeg: what they must hold, sizes read back, there and back to the same bytes, what is refused."""

import pytest
import torch
from transformers import CLIPModel

from lexiseg.checkpoints.layouts import ovseg as ovseg_file
from lexiseg.checkpoints.layouts import zegformer as zegformer_file
from lexiseg.checkpoints.layouts.maskformer_rows import CLASS_WEIGHTS
from lexiseg.checkpoints.published_rows import ANY
from lexiseg.clip.formats.openai import config_from_openai, model_from_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.errors import CheckpointError
from lexiseg.models.ovseg import OVSeg, OVSegSettings
from lexiseg.models.zegformer import ZegFormer, ZegFormerSettings
from openai_files import openai_state
from region_model_cases import SIZES, SWIN, tiny_tower
from support import tiny_clip_config

NOT_STORED = {"query_heads": 8, "query_dropout": 0.1}
DEEP = {"stem": "deep", "backbone_depths": (1, 2, 1, 3), "last_dilations": (1, 2, 4)}
R101C = DEEP | ovseg_file.R101C
SIZES = SIZES | NOT_STORED | {"query_width": 24}
SWIN = SIZES | SWIN | {"stem_width": 64, "swin_drop_path": 0.3}
CASES = {
    "zegformer": ("zegformer", ZegFormerSettings(**SIZES)),
    "zegformer deep": ("zegformer", ZegFormerSettings(**SIZES | DEEP)),
    "ovseg": ("ovseg", OVSegSettings(**SWIN | {"class_hidden": 13, "prompt_depth": 2})),
    "ovseg r101c": ("ovseg", OVSegSettings(**SIZES | R101C | {"backbone": "resnet", "class_hidden": 13})),
    "ovseg without prompts": ("ovseg", OVSegSettings(**SWIN | {"prompt_depth": 0})),
}


def layout(kind, settings, tower):
    if kind == "ovseg":
        return ovseg_file.ovseg_layout(settings, tower)
    return zegformer_file.zegformer_layout(settings, tower)


def detect(kind, published):
    return getattr({"ovseg": ovseg_file, "zegformer": zegformer_file}[kind], f"detect_{kind}")(published)


def random_file(table, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).half() for name, shape in table.shapes.items()}


@pytest.mark.parametrize("case", CASES)
def test_there_and_back(case):
    kind, settings = CASES[case]
    tower = tiny_tower()
    table = layout(kind, settings, tower)
    model = (OVSeg if kind == "ovseg" else ZegFormer)(tower, settings)
    published = random_file(table)
    ours = table.from_published(published)
    assert {name: tuple(each.shape) for name, each in ours.items()} == {
        name: tuple(each.shape) for name, each in model.state_dict().items()
    }
    back = table.to_published(ours)
    assert back.keys() == table.live
    assert all(torch.equal(each, published[name]) for name, each in back.items())
    assert detect(kind, published) == settings


def test_the_clip_inside_loads():
    tower = tiny_tower()
    _, settings = CASES["ovseg"]
    torch.manual_seed(3)
    clip = openai_state(CLIPModel(tiny_clip_config()))
    published = random_file(layout("ovseg", settings, tower))
    published |= {ovseg_file.CLIP + name: each for name, each in clip.items()}
    inside = ovseg_file.clip_of_ovseg(published)
    assert inside.keys() == clip.keys(), "the prompt tokens are not CLIP's"
    config = config_from_openai(inside, activation="quick_gelu", vision_heads=3, text_heads=2)
    loaded = VisionTower(model_from_openai(inside, config))
    assert torch.equal(loaded.vision.embeddings.class_embedding, clip["visual.class_embedding"])
    assert not zegformer_file.clip_of_zegformer(published)


def test_what_a_file_may_hold_besides():
    found = {
        CLASS_WEIGHTS: (6,),
        f"{ovseg_file.CLIP}ln_final.weight": (20,),
        f"{ovseg_file.CLIP}ln_final.bias": (20,),
        f"{ovseg_file.CLIP}transformer.resblocks.0.ln_1.weight": (20,),
    }
    shapes = ovseg_file.optional_shapes(found)
    assert found.keys() <= shapes.keys()
    assert shapes[CLASS_WEIGHTS] == (ANY,)
    assert f"{ovseg_file.CLIP}transformer.resblocks.0.attn.in_proj_weight" in shapes
    assert not ovseg_file.optional_shapes({})
    assert zegformer_file.optional_shapes({zegformer_file.SCALE: (1,)}) == {zegformer_file.SCALE: (1,)}


@pytest.mark.parametrize("kind", ["zegformer", "ovseg"])
def test_a_file_of_another_model(kind):
    for published in ({}, {"decode_head.weight": torch.zeros(3)}):
        with pytest.raises(CheckpointError, match="expected the published layout of"):
            detect(kind, published)
    tower = tiny_tower()
    whole = random_file(layout(kind, CASES[kind][1], tower))
    for broken in ("query_embed", "layers.0.linear1.bias", "mask_features.weight"):
        published = {name: each for name, each in whole.items() if broken not in name}
        with pytest.raises(CheckpointError, match="expected the published layout of a MaskFormer"):
            detect(kind, published)
    if kind == "ovseg":
        published = {name: each for name, each in whole.items() if "class_embed" not in name}
        with pytest.raises(CheckpointError, match="expected the published layout"):
            detect(kind, published)
