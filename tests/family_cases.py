"""Tiny random CLIPs of every family of transformers, each saved as its hub folder would be."""

from pathlib import Path

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


MODELS = {"siglip": siglip, "metaclip_2": metaclip2, "tipsv2": tips}
PREPARATION = {
    "siglip": {"do_normalize": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7]},
    "metaclip_2": {},
    "tipsv2": {"do_normalize": False},
}


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """One token per word; markers where the family's own tokenizer sets them."""
    vocabulary = {word: index for index, word in enumerate(("<pad>", "<bos>", "<eos>", "<unk>", *WORDS))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.normalizer = normalizers.Strip()
    patterns = {"siglip": "$A <eos>", "metaclip_2": "<bos> $A <eos>", "tipsv2": "$A"}
    made.post_processor = processors.TemplateProcessing(
        single=patterns[name], special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    special = {f"{kind}_token": f"<{kind}>" for kind in ("pad", "bos", "eos", "unk")}
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def saved(name: str, folder: Path):
    """The model of a family, and its folder with weights, tokenizer and preparation."""
    model = MODELS[name]()
    model.save_pretrained(folder)
    tokenizer(name).save_pretrained(folder)
    if PREPARATION[name]:
        write_json(PREPARATION[name], folder / "preprocessor_config.json")
    return model
