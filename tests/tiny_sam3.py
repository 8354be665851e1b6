"""A tiny random SAM 3 that reads words, and its folder with the toy world's tokens."""

import json
import shutil
from pathlib import Path

import torch
from transformers import Sam3Config, Sam3Model

from groupvit_files import TOY
from tiny_sams import SAM3_VISION

SIDE, QUERIES, CONTEXT = 64, 5, 13
_SMALL = {"hidden_size": 16, "num_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}


def tiny_sam3() -> Sam3Model:
    """Squares of 64 pixels in patches of 8, masks of 32×32; its weights large enough that words differ."""
    torch.manual_seed(0)
    told = json.loads((TOY / "config.json").read_text())["text_config"]
    text = {"model_type": "clip_text_model", "hidden_size": 20, "intermediate_size": 40, "projection_dim": 12}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": CONTEXT}
    text |= {name: told[name] for name in ("vocab_size", "bos_token_id", "eos_token_id")}
    model = Sam3Model(
        Sam3Config(
            vision_config=SAM3_VISION,
            text_config=text,
            geometry_encoder_config=_SMALL,
            detr_encoder_config=_SMALL,
            detr_decoder_config={**_SMALL, "num_queries": QUERIES},
            mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2},
        )
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def saved(folder: Path) -> Sam3Model:
    """The model, and its folder with weights and tokenizer."""
    model = tiny_sam3()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        shutil.copy(str(TOY / name), folder)
    return model
