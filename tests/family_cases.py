"""Tiny random CLIPs of every family of transformers, each saved as its hub folder would be.

A new family of towers adds a builder and one entry in :data:`CASES`; every contract takes it from there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    MetaClip2Config,
    MetaClip2Model,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    Tipsv2Config,
    Tipsv2Model,
)

from lexiseg.constants import CLIP_MEAN, CLIP_STD
from lexiseg.storage import write_json

WORDS = ("a", "photo", "of", "red", "circle", "the", "blue", "square", "stripes", ".")
PATCH, SIDE = 8, 40


def _randomised(model):
    """Weights large enough that every part matters, none of them at its initial zero or one."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def siglip() -> SiglipModel:
    torch.manual_seed(0)
    vision = {"hidden_size": 24, "intermediate_size": 38, "num_hidden_layers": 3, "num_attention_heads": 3}
    vision |= {"patch_size": PATCH, "image_size": SIDE}
    text = {"hidden_size": 20, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"projection_size": 24, "vocab_size": 31, "max_position_embeddings": 13}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = SiglipModel(SiglipConfig(vision_config=vision, text_config=text))
    with torch.no_grad():
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-16.5)
    return _randomised(model)


def metaclip2() -> MetaClip2Model:
    torch.manual_seed(0)
    vision = {"hidden_size": 24, "intermediate_size": 38, "num_hidden_layers": 3, "num_attention_heads": 3}
    vision |= {"patch_size": PATCH, "image_size": SIDE, "projection_dim": 16, "hidden_act": "gelu"}
    text = {"hidden_size": 20, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"projection_dim": 16, "vocab_size": 31, "max_position_embeddings": 13, "hidden_act": "gelu"}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return _randomised(
        MetaClip2Model(MetaClip2Config(vision_config=vision, text_config=text, projection_dim=16))
    )


def tips() -> Tipsv2Model:
    torch.manual_seed(0)
    vision = {"hidden_size": 24, "mlp_ratio": 2, "num_hidden_layers": 3, "num_attention_heads": 3}
    vision |= {"patch_size": PATCH, "image_size": SIDE, "num_register_tokens": 2, "layerscale_value": 0.7}
    text = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"vocab_size": 31, "max_position_embeddings": 13}
    return _randomised(
        Tipsv2Model(Tipsv2Config(vision_config=vision, text_config=text, temperature_init_value=0.02))
    )


@dataclass(frozen=True)
class Case:
    """One family, by what its tests expect of it.

    Attributes:
        build: A tiny random model of transformers' class.
        tokens: What its own tokenizer makes of a sentence ``$A``; there are ``<bos>`` and ``<eos>``.
        pooling: Where its text tower reads a sentence.
        preparation: What its folder says of photographs.
        colors: Mean and deviation that a tower of this folder takes.
        lower_case: Whether its text tower reads in lower case.
        padding_mask: Whether transformers' text tower is told where padding stands.
        interpolates: Whether transformers' image tower takes other grids without being asked.
        prefix: Tokens before the patches.
        class_token: Whether the first of them stands for the image.
        takes_prompts: As of the tower.
        aligned_patches: As of the tower.
    """

    build: Callable[[], Any]
    tokens: str
    pooling: str
    preparation: dict[str, Any] = field(default_factory=dict)
    colors: tuple[tuple[float, ...], tuple[float, ...]] = (CLIP_MEAN, CLIP_STD)
    lower_case: bool = True
    padding_mask: bool = False
    interpolates: bool = False
    prefix: int = 1
    class_token: bool = True
    takes_prompts: bool = False
    aligned_patches: bool = False


CASES = {
    "siglip": Case(
        siglip,
        tokens="$A <eos>",
        pooling="last token",
        preparation={"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7]},
        colors=((0.5, 0.4, 0.3), (0.5, 0.6, 0.7)),
        prefix=0,
        class_token=False,
    ),
    "metaclip_2": Case(
        metaclip2, tokens="<bos> $A <eos>", pooling="end marker", lower_case=False, takes_prompts=True
    ),
    "tipsv2": Case(
        tips,
        tokens="$A",
        pooling="mean of tokens",
        preparation={"do_normalize": False},
        colors=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        padding_mask=True,
        interpolates=True,
        prefix=3,
        aligned_patches=True,
    ),
}


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """One token per word; markers where the family's own tokenizer sets them."""
    vocabulary = {word: index for index, word in enumerate(("<pad>", "<bos>", "<eos>", "<unk>", *WORDS))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.normalizer = normalizers.Strip()
    made.post_processor = processors.TemplateProcessing(
        single=CASES[name].tokens, special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    special = {f"{kind}_token": f"<{kind}>" for kind in ("pad", "bos", "eos", "unk")}
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def saved(name: str, folder: Path):
    """The model of a family, and its folder with weights, tokenizer and preparation."""
    model = CASES[name].build()
    model.save_pretrained(folder)
    tokenizer(name).save_pretrained(folder)
    if CASES[name].preparation:
        write_json(CASES[name].preparation, folder / "preprocessor_config.json")
    return model
