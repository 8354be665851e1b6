"""A tiny random GroupViT, and the same weights as the release's file holds them, renamed by hand."""

import importlib.resources
import json
import re
import shutil
from pathlib import Path

import torch
from torch import Tensor
from transformers import GroupViTConfig, GroupViTModel

PATCH, SIDE, HEADS = 8, 40, 3
TOY = importlib.resources.files("lexiseg") / "assets" / "toy_clip"
"""Its words are the toy CLIP's."""


def groupvit() -> GroupViTModel:
    """Five first groups, three last ones; 24 channels, a joint space of 16; no weight at its initial zero or one."""
    torch.manual_seed(0)
    vision = {"hidden_size": 24, "intermediate_size": 38, "num_hidden_layers": 4, "depths": [2, 1, 1]}
    vision |= {"num_group_tokens": [5, 3, 0], "num_output_groups": [5, 3, 3], "num_attention_heads": HEADS}
    vision |= {"patch_size": PATCH, "image_size": SIDE}
    text = {"hidden_size": 20, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"max_position_embeddings": 13}
    told = json.loads((TOY / "config.json").read_text())["text_config"]
    text |= {name: told[name] for name in ("vocab_size", "bos_token_id", "eos_token_id")}
    config = GroupViTConfig(
        vision_config=vision, text_config=text, projection_dim=16, projection_intermediate_dim=22
    )
    model = GroupViTModel(config)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.ndim and tensor.is_floating_point():
                tensor.add_(0.2 * torch.rand_like(tensor))
        model.logit_scale.fill_(3.1)
        model.vision_model.embeddings.position_embeddings.normal_()
    return model.eval()


_RENAMED = (
    (r"^vision_model.embeddings.position_embeddings", "img_encoder.pos_embed"),
    (r"^vision_model.embeddings.patch_embeddings.projection", "img_encoder.patch_embed.proj"),
    (r"^vision_model.embeddings.layernorm", "img_encoder.patch_embed.norm"),
    (r"^vision_model.layernorm", "img_encoder.norm"),
    (r"^vision_model.encoder.stages.(\d+).layers", r"img_encoder.layers.\1.blocks"),
    (r"^vision_model.encoder.stages", "img_encoder.layers"),
    (r"^text_model.embeddings.token_embedding", "text_encoder.token_embedding"),
    (r"^text_model.embeddings.position_embedding.weight", "text_encoder.positional_embedding"),
    (r"^text_model.final_layer_norm", "text_encoder.ln_final"),
    (r"^text_model.encoder.layers", "text_encoder.transformer.resblocks"),
    (r"^(text_.*)layer_norm(\d)", r"\1ln_\2"),
    (r"^(text_.*)mlp.fc1", r"\1mlp.c_fc"),
    (r"^(text_.*)mlp.fc2", r"\1mlp.c_proj"),
    (r"^(text_.*)self_attn.q_proj.(\w+)", r"\1attn.in_proj_\2"),
    (r"^(text_.*)self_attn.out_proj", r"\1attn.out_proj"),
    (r"^(img_.*)layer_norm", r"\1norm"),
    (r"^(img_.*)self_attn.q_proj", r"\1attn.qkv"),
    (r"^(img_.*)attn.out_proj", r"\1attn.proj"),
    (r"self_attn.proj", "attn.proj"),
    (r"^visual_projection", "img_projector"),
    (r"^text_projection", "text_projector"),
    (r"^(img|text)_projector.([01])", r"\1_projector.linear_hidden.\2"),
    (r"^(img|text)_projector.3", r"\1_projector.linear_out"),
)
"""transformers' names, piece by piece, to those of the release."""


def original_state(model: GroupViTModel) -> dict[str, Tensor]:
    """Under the names of ``group_vit_*.pth``: projections fused, projectors as convolutions over one position."""
    state, found = model.state_dict(), {}
    for name, tensor in state.items():
        if re.search(r"self_attn.[kv]_proj", name):
            continue
        value = tensor
        if "self_attn.q_proj" in name:
            value = torch.cat([state[name.replace("q_proj", f"{each}_proj")] for each in "qkv"])
        if "_projection." in name and value.ndim == 2:
            value = value[..., None]
        new = name
        for pattern, replacement in _RENAMED:
            new = re.sub(pattern, replacement, new)
        found[new] = value.clone()
    return found


def saved(folder: Path) -> GroupViTModel:
    """The model, and its folder with weights and tokenizer."""
    model = groupvit()
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        shutil.copy(str(TOY / name), folder)
    return model
