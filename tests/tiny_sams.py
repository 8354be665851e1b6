"""Tiny random models of the SAM family."""

import json

import torch
from safetensors.torch import save_file
from transformers import (
    Sam2Config,
    Sam2Model,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    SamConfig,
    SamHQConfig,
    SamHQModel,
    SamModel,
)

SAM_SIDE = 64


def tiny_sam(kind="sam"):
    """A random SAM of a few thousand weights, its weights large enough that masks differ."""
    torch.manual_seed(0)
    model = {"sam": _sam, "sam_hq": _sam_hq, "sam2": _sam2, "sam3": _sam3}[kind]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        decoder = model.mask_decoder
        for head in (*decoder.output_hypernetworks_mlps, getattr(decoder, "hq_mask_mlp", None)):
            if head is not None:
                head.proj_out.weight.mul_(4)
                head.proj_out.bias.mul_(4)
        decoder.iou_prediction_head.proj_out.weight.mul_(0.5)
        decoder.iou_prediction_head.proj_out.bias.fill_(0.5)
    return model.eval()


_PROMPTS = {"hidden_size": 16, "image_size": SAM_SIDE, "patch_size": 16, "mask_input_channels": 8}
_DECODER = {
    "hidden_size": 16,
    "mlp_dim": 24,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 12,
}


def _vit(**more):
    return {
        "hidden_size": 24,
        "output_channels": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": SAM_SIDE,
        "patch_size": 16,
        "window_size": 3,
        "global_attn_indexes": [1],
        "num_pos_feats": 8,
        **more,
    }


def _sam():
    return SamModel(
        SamConfig(vision_config=_vit(), prompt_encoder_config=_PROMPTS, mask_decoder_config=_DECODER)
    )


def _sam_hq():
    decoder = {**_DECODER, "vit_dim": 24}
    return SamHQModel(
        SamHQConfig(vision_config=_vit(), prompt_encoder_config=_PROMPTS, mask_decoder_config=decoder)
    )


SAM3_VISION = {
    "backbone_config": {
        "model_type": "sam3_vit_model",
        "hidden_size": 24,
        "intermediate_size": 38,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": SAM_SIDE,
        "patch_size": 8,
        "window_size": 4,
        "global_attn_indexes": [1],
        "pretrain_image_size": 32,
    },
    "fpn_hidden_size": 16,
    "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
}


def _sam3():
    prompts = {**_PROMPTS, "patch_size": 8}
    vision = {"model_type": "sam3_vision_model", **SAM3_VISION}
    return Sam3TrackerModel(
        Sam3TrackerConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=_DECODER)
    )


def _sam2():
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "num_attention_heads": 1,
        "image_size": [SAM_SIDE, SAM_SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [4, 4, 2, 2],
        "window_positional_embedding_background_size": [4, 4],
        "global_attention_blocks": [3],
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 16,
    }
    return Sam2Model(
        Sam2Config(vision_config=vision, prompt_encoder_config=_PROMPTS, mask_decoder_config=_DECODER)
    )


def save_as_released_sam3(model, folder):
    """The part of a SAM 3 that answers points under the names that it has in the released file, beside a part of another."""
    moved = (("vision_encoder.backbone.", "detector_model.vision_encoder.backbone."),)
    moved += (("vision_encoder.neck.", "tracker_neck."), ("", "tracker_model."))
    state = {"detector_model.text_projection.weight": torch.zeros(3, 5)}
    for name, tensor in model.state_dict().items():
        here, there = next(pair for pair in moved if name.startswith(pair[0]))
        state[there + name.removeprefix(here)] = tensor.clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "sam3_video", "tracker_config": model.config.to_dict()}
    (folder / "config.json").write_text(json.dumps(config))
    return state
