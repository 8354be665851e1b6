"""Tiny random panoptic models of ``transformers``, saved with their preprocessing."""

import torch
from transformers import (
    EomtConfig,
    EomtForUniversalSegmentation,
    EomtImageProcessorPil,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    SwinConfig,
)


class TinyPanoptic:
    """A model that is sure of every query's class, whatever it sees.

    Args:
        kind: ``eomt`` or ``mask2former``.
    """

    def __init__(self, kind="eomt"):
        torch.manual_seed(1)  # with others a random EoMT may find nothing
        self.model, self.processor = (_eomt if kind == "eomt" else _mask2former)()
        head = self.model.class_predictor
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
            head.bias.zero_()
            head.bias[1] = 50

    def save_pretrained(self, folder):
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def _eomt():
    config = EomtConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        num_upscale_blocks=1,
        num_blocks=1,
        num_queries=7,
        num_labels=3,
    )
    side = {"shortest_edge": 32, "longest_edge": 32}
    processor = EomtImageProcessorPil(size=side, do_pad=True, do_split_image=False)
    return EomtForUniversalSegmentation(config), processor


def _mask2former():
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = SwinConfig(
        image_size=32,
        patch_size=2,
        embed_dim=8,
        depths=[1] * 4,
        num_heads=[1] * 4,
        window_size=2,
        out_features=stages,
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
        num_queries=7,
        num_labels=3,
    )
    processor = Mask2FormerImageProcessorPil(size={"height": 32, "width": 32}, num_labels=3)
    return Mask2FormerForUniversalSegmentation(config), processor
