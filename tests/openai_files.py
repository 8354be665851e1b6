"""Write weight files in the layouts that OpenAI and open_clip released, from a random transformers CLIP."""

from pathlib import Path

import torch
from torch import Tensor, nn


def openai_state(model) -> dict[str, Tensor]:
    """transformers' names to OpenAI's: the inverse of the product's conversion, written independently."""
    state = model.state_dict()
    out = {"logit_scale": state["logit_scale"]}
    out["visual.proj"] = state["visual_projection.weight"].T.contiguous()
    out["text_projection"] = state["text_projection.weight"].T.contiguous()
    out["visual.class_embedding"] = state["vision_model.embeddings.class_embedding"]
    out["visual.conv1.weight"] = state["vision_model.embeddings.patch_embedding.weight"]
    out["visual.positional_embedding"] = state["vision_model.embeddings.position_embedding.weight"]
    out["positional_embedding"] = state["text_model.embeddings.position_embedding.weight"]
    out["token_embedding.weight"] = state["text_model.embeddings.token_embedding.weight"]
    for kind in ("weight", "bias"):
        out[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        out[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
        out[f"ln_final.{kind}"] = state[f"text_model.final_layer_norm.{kind}"]
        for tower, prefix in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
            layers = {name.split(".")[3] for name in state if name.startswith(f"{tower}.encoder.layers.")}
            for i in layers:
                theirs, ours = f"{tower}.encoder.layers.{i}", f"{prefix}.resblocks.{i}"
                qkv = [state[f"{theirs}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
                out[f"{ours}.attn.in_proj_{kind}"] = torch.cat(qkv)
                out[f"{ours}.attn.out_proj.{kind}"] = state[f"{theirs}.self_attn.out_proj.{kind}"]
                out[f"{ours}.ln_1.{kind}"] = state[f"{theirs}.layer_norm1.{kind}"]
                out[f"{ours}.ln_2.{kind}"] = state[f"{theirs}.layer_norm2.{kind}"]
                out[f"{ours}.mlp.c_fc.{kind}"] = state[f"{theirs}.mlp.fc1.{kind}"]
                out[f"{ours}.mlp.c_proj.{kind}"] = state[f"{theirs}.mlp.fc2.{kind}"]
    return {name: tensor.detach().clone() for name, tensor in out.items()}


class _Node(nn.Module):
    """A module tree built from dotted names; holds parameters and does nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def save_torchscript(state: dict[str, Tensor], path: Path) -> None:
    """A TorchScript archive whose state dict is ``state`` in half precision, as OpenAI's release files are."""
    root = _Node()
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        node = root
        for part in parents:
            if not hasattr(node, part):
                node.add_module(part, _Node())
            node = getattr(node, part)
        value = tensor.half() if tensor.is_floating_point() else tensor
        node.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
    for name, value in (("input_resolution", 40), ("context_length", 13), ("vocab_size", 97)):
        root.register_buffer(name, torch.tensor(value))
    torch.jit.trace(root, torch.zeros(1), check_trace=False).save(str(path))
