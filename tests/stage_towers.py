"""Tiny frozen CLIPs of convolutions, and a small FC-CLIP's settings."""

import torch

import convnext_files
import resnet_files
from lexiseg.clip.formats.open_clip import convnext_from_open_clip
from lexiseg.clip.formats.openai_resnet import resnet_from_openai
from lexiseg.clip.towers.convnext import ConvNextTower
from lexiseg.clip.towers.resnet import ResNetTower
from lexiseg.models.fc_clip import FCClip, FCClipSettings
from openai_files import openai_state

SMALL = {
    "queries": 7,
    "width": 32,
    "heads": 4,
    "encoder_layers": 2,
    "encoder_feedforward": 13,
    "decoder_layers": 4,
    "decoder_feedforward": 17,
}
KINDS = ("ConvNeXt", "ResNet")


def stage_tower(kind: str, tiny_clip):
    text = openai_state(tiny_clip)
    if kind == "ConvNeXt":
        state = convnext_files.convnext_state(text, hidden=19)
        return ConvNextTower(convnext_from_open_clip(state, text_heads=2, image_size=64)).eval()
    state = resnet_files.resnet_state(text)
    return ResNetTower(resnet_from_openai(state, vision_heads=resnet_files.HEADS, text_heads=2)).eval()


def fc_clip(kind: str, tiny_clip, **settings) -> FCClip:
    """Every weight a little away from its start, so that each of them matters."""
    torch.manual_seed(3)
    model = FCClip(stage_tower(kind, tiny_clip), FCClipSettings(**(SMALL | settings)))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()
