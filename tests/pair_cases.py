"""Every pair of a proposer and a region classifier at tiny sizes, and the published models of regions."""

import torch

import program_cases
import region_model_cases
import stage_towers
from lexiseg.models.proposers.registry import PROPOSERS
from lexiseg.models.region_classifiers.registry import CLASSIFIERS
from lexiseg.models.registry import build_model

PROPOSER_SIZES = {
    "mask2former": stage_towers.SMALL,
    "maskformer": region_model_cases.SIZES,
    "cross_attention": {
        key: value for key, value in program_cases.SMALL_OPEN_SEG.items() if key != "temperature"
    },
    "side_adapter": program_cases.SMALL_SAN,
    "given": {"options": {"regions": [5]}},
}
CLASSIFIER_SIZES = {
    "segment_embedding": {"hidden": 13},
    "pooled_queries": {},
    "masked_crops": {"crops_at_a_time": 3, "scale": 10.0},
    "mask_pooling": {"scale": 10.0},
    "soft_pooling": {"temperature": 0.1},
    "shadow_tokens": {"hidden": 11, "early_blocks": 1, "scale": 10.0},
}
READS_EMBEDDINGS = ("segment_embedding", "pooled_queries")
PAIRS = [
    (proposer, classifier)
    for proposer in PROPOSERS
    for classifier in CLASSIFIERS
    if not (proposer == "given" and classifier in READS_EMBEDDINGS)
]
UNTRAINED = [("given", "masked_crops"), ("given", "mask_pooling"), ("given", "soft_pooling")]
"""Pairs in which nothing learns."""


def settings(proposer, classifier, **more):
    """As a configuration holds them; ``more`` are settings of the classifier."""
    return {
        "name": "two_stage",
        "proposer": {"name": proposer, **PROPOSER_SIZES[proposer]},
        "classifier": {"name": classifier, **CLASSIFIER_SIZES[classifier], **more},
    }


def pair(proposer, classifier, tower=None, **more):
    """A random model, every weight of which matters."""
    tower = tower or region_model_cases.tiny_tower()
    torch.manual_seed(4)
    model = build_model(settings(proposer, classifier, **more), tower).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


PUBLISHED = {
    "san": program_cases.SMALL_SAN,
    "fc_clip": stage_towers.SMALL,
    "zegformer": region_model_cases.SIZES,
    "ovseg": region_model_cases.SIZES | {"backbone": "resnet", "class_hidden": 13, "prompt_depth": 1},
    "open_seg": program_cases.SMALL_OPEN_SEG,
}


def published(name, **more):
    """A published model of regions, likewise."""
    tower = region_model_cases.tiny_tower()
    torch.manual_seed(4)
    model = build_model({"name": name, **PUBLISHED.get(name, {}), **more}, tower).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model
