"""Every training-free method equals its published implementation on the same random weights.

Runs on every folder that LEXISEG_GOLDEN names. Weights, images, words, sizes and the settings
that were tried are read from the files; ``METHOD__TAG.npz`` belongs to ``clip_TAG.pt`` or
``clip_TAG_visual.pt``.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from published_cases import TOLERANCE, assert_close
from torch import Tensor, nn

from lexiseg.clip.formats.openai import vision_config_from_openai, vision_model_from_openai
from lexiseg.clip.towers.vit import VisionTower
from lexiseg.dense import DenseEncoder, build_dense
from lexiseg.inference.decision import decide
from lexiseg.inference.layout import ImageLayout, WindowLayout
from lexiseg.inference.protocol import InferenceProtocol
from lexiseg.ops.affinity import contrasted_scores, cosine_affinity
from lexiseg.ops.attention import attention_map, neighborhood_bias
from lexiseg.ops.grid import resize_position_embedding
from lexiseg.ops.outliers import find_outliers, local_outlier_factor
from lexiseg.ops.pamr import color_affinity, pamr
from lexiseg.ops.semantic_feedback import semantic_affinity
from lexiseg.ops.sliding_window import window_grid
from support import golden_folders

HALF_PRECISION_TOLERANCE = 5e-4
"""For what the published ResCLIP computed through its half-precision cast."""


FOLDERS = golden_folders("training-free")
METHOD_FILES = [path for folder in FOLDERS for path in sorted(folder.glob("*__*.npz"))]

pytestmark = [
    pytest.mark.golden,
    pytest.mark.skipif(not METHOD_FILES, reason="LEXISEG_GOLDEN names no training-free folder"),
]

Comparison = tuple[str, Tensor, Tensor, float]


@dataclasses.dataclass(frozen=True)
class Case:
    """One file of published numbers, with the tower, the words and the images behind it."""

    file: dict[str, Tensor]
    tower: VisionTower
    text: Tensor
    inputs: dict[str, Tensor]

    def images(self) -> Iterator[str]:
        """Names of the input images that the file speaks of."""
        for name, image in self.inputs.items():
            if (
                image.ndim == 4
                and image.shape[1] == 3
                and any(key.startswith(f"{name}/") for key in self.file)
            ):
                yield name

    def image(self, name: str, *, pad: bool = False) -> Tensor:
        """The image, cut to whole patches as a patch embedding does, or padded at the bottom right."""
        image, patch = self.inputs[name], self.tower.patch_size
        height, width = image.shape[-2:]
        if pad:
            return F.pad(image, (0, -width % patch, 0, -height % patch))
        return image[..., : height // patch * patch, : width // patch * patch]


def read(path: Path) -> dict[str, Tensor]:
    arrays = np.load(path)
    return {
        name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].dtype.kind in "fiub"
    }


@cache
def load_tower(folder: Path, tag: str, activation: str = "quick_gelu") -> VisionTower:
    path = next(
        (p for p in (folder / f"clip_{tag}.pt", folder / f"clip_{tag}_visual.pt") if p.is_file()), None
    )
    if path is None:
        pytest.skip(f"no weights clip_{tag}.pt in {folder}")
    state = torch.load(path, weights_only=True)
    config = vision_config_from_openai(state, activation=activation)
    return VisionTower(vision_model_from_openai(state, config)).eval()


@cache
def load_case(path: Path, activation: str = "quick_gelu") -> Case:
    tag = path.stem.split("__")[1]
    file, words = read(path), read(path.parent / "text_div.npz")
    text = file["query_features"] if "query_features" in file else words[tag]
    return Case(
        file, load_tower(path.parent, tag, activation), text.float(), read(path.parent / "inputs.npz")
    )


def tokens(feature_map: Tensor) -> Tensor:
    return feature_map.flatten(2).transpose(1, 2)


def read_features(encoder: DenseEncoder, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Features ``(B, N, E)`` and logits ``(B, K, h, w)``; also checks that a batch equals its images."""
    state = encoder.encode(image)
    features, logits = tokens(encoder.features(state, text)), encoder.decode(state, text).logits
    three = torch.cat([image, image.flip(-1), 0.5 * image.roll(5, dims=-2)])
    together = encoder(three, text)
    for index, single in enumerate(three):
        assert_close(together[index], encoder(single[None], text)[0], "batch of three")
    return features, logits


def patches_of(expected: Tensor, count: int) -> Tensor:
    """Published features without the class token, where they have one."""
    return expected[:, -count:]


def both(
    case: Case, encoder: DenseEncoder, name: str, key: str, tolerance: float = TOLERANCE
) -> Iterator[Comparison]:
    """Features and logits under ``key``, as far as the file has them."""
    features, logits = read_features(encoder, case.image(name), case.text)
    if f"{key}/feat" in case.file:
        yield f"{key}/feat", features, patches_of(case.file[f"{key}/feat"], features.shape[1]), tolerance
    if f"{key}/logits_patch" in case.file:
        yield f"{key}/logits_patch", logits, case.file[f"{key}/logits_patch"], tolerance


def one(case: Case, encoder: DenseEncoder, name: str, key: str, tolerance: float = TOLERANCE) -> Comparison:
    features, _ = read_features(encoder, case.image(name), case.text)
    return key, features, patches_of(case.file[key], features.shape[1]), tolerance


def sclip(case: Case) -> Iterator[Comparison]:
    tower, encoder, plain = case.tower, build_dense("sclip", case.tower), build_dense("clip", case.tower)
    for name in case.images():
        image = case.image(name)
        yield from both(case, encoder, name, name)
        if f"{name}/logits_up" in case.file:
            whole = case.inputs[name].shape[-2:]
            up = F.interpolate(encoder(image, case.text), size=whole, mode="bilinear", align_corners=False)
            yield f"{name}/logits_up", up, case.file[f"{name}/logits_up"], TOLERANCE
        if f"{name}/vanilla_feat" in case.file:
            yield one(case, plain, name, f"{name}/vanilla_feat")
            cls = tower(image, position_mode="bicubic_offset")
            yield f"{name}/vanilla_cls", cls, case.file[f"{name}/vanilla_cls"], TOLERANCE
        if f"{name}/attn_qk" in case.file:
            last = tower.depth - 1
            query, key, _ = tower.qkv(last, tower.norm1(last, plain.run_to_last(image)))
            yield f"{name}/attn_qk", attention_map(query, key)[0], case.file[f"{name}/attn_qk"], TOLERANCE
            both_maps = attention_map(query, query) + attention_map(key, key)
            yield f"{name}/attn_csa", both_maps[0], case.file[f"{name}/attn_csa"], TOLERANCE
        if f"{name}/hidden_LND" in case.file:
            hidden = plain.run_to_last(image)
            yield f"{name}/hidden", hidden, case.file[f"{name}/hidden_LND"][-1].transpose(0, 1), TOLERANCE
    yield from sliding_windows(case, encoder)


def sliding_windows(case: Case, encoder: DenseEncoder) -> Iterator[Comparison]:
    """All windows in one batch; the published image is the one whose window count fits."""
    if "slide/windows" not in case.file:
        return
    expected = case.file["slide/windows"]
    crop, stride = case.file["slide/crop_stride"].tolist()
    for name in case.images():
        image = case.inputs[name]
        boxes = window_grid((image.shape[-2], image.shape[-1]), crop, stride).boxes
        if len(boxes) != len(expected):
            continue
        windows = torch.cat([image[..., top:bottom, left:right] for top, left, bottom, right in boxes])
        maps = F.interpolate(
            encoder(windows, case.text), size=(crop, crop), mode="bilinear", align_corners=False
        )
        yield "slide/windows", maps, expected, TOLERANCE


def clearclip(case: Case) -> Iterator[Comparison]:
    names = {"ClearCLIP": "clearclip", "vanilla": "clip", "MaskCLIP": "maskclip", "SCLIP": "sclip"}
    for key in case.file:
        if match := re.fullmatch(r"(\w+)_ir([01])/(\w+)/feat", key):
            method, alone, image = names[match[1]], match[2] == "1", match[3]
            if method == "clearclip" and alone:
                yield from both(case, build_dense("clearclip", case.tower), image, key.removesuffix("/feat"))
                continue
            kept = {"residual": not alone, "feed_forward": not alone, "position_mode": "bicubic_offset"}
            if (
                method == "clearclip"
            ):  # with the residual, ClearCLIP's attention is SCLIP's with queries alone
                method, kept = "sclip", kept | {"projections": ["query"]}
            yield from both(case, build_dense(method, case.tower, **kept), image, key.removesuffix("/feat"))
        elif match := re.fullmatch(r"ClearCLIP_last(\d+)/(\w+)", key):
            yield one(case, build_dense("clearclip", case.tower, blocks=int(match[1])), match[2], key)
        elif match := re.fullmatch(r"GEM_ir([01])_depth(\d+)/(\w+)", key):
            blocks, residual = min(int(match[2]) - 1, case.tower.depth), match[1] == "0"
            yield one(case, build_dense("gem", case.tower, blocks=blocks, residual=residual), match[3], key)


def maskclip(case: Case) -> Iterator[Comparison]:
    for name in case.images():
        image = case.image(name, pad=True)
        _, logits = read_features(build_dense("maskclip", case.tower), image, case.text)
        yield f"{name}/logits_patch", logits, case.file[f"{name}/logits_patch"], TOLERANCE
        smoothed = build_dense("maskclip", case.tower, smoothing_threshold=1.0)
        yield f"{name}/k", smoothed.encode(image).keys, case.file[f"{name}/k"], TOLERANCE
        for key, expected in case.file.items():
            if match := re.fullmatch(rf"{name}/(?:ks([\d.]+))?_?(?:pd([\d.]+))?", key):
                thresholds = {
                    "smoothing_threshold": float(match[1] or 0),
                    "denoising_threshold": float(match[2] or 0),
                }
                _, refined = read_features(
                    build_dense("maskclip", case.tower, **thresholds), image, case.text
                )
                yield key, refined, expected, TOLERANCE


def naclip(case: Case) -> Iterator[Comparison]:
    encoders = {
        "vanilla_vanilla": ("clip", {}),
        "vanilla_csa": ("sclip", {}),
        "vanilla_naclip": ("naclip", {"residual": True, "feed_forward": True}),
        "reduced_vanilla": ("clip", {"residual": False, "feed_forward": False}),
        "reduced_kk": ("sclip", {"projections": ["key"], "residual": False, "feed_forward": False}),
        "reduced_nonly": ("naclip", {"similarity": "none"}),
    }
    for name in case.images():
        yield from both(case, build_dense("naclip", case.tower), name, name)
        for key in case.file:
            variant = key.removeprefix(f"{name}/")
            if key.startswith(f"{name}/") and variant in encoders:
                method, settings = encoders[variant]
                yield one(case, build_dense(method, case.tower, **settings), name, key)
    for key, expected in case.file.items():
        if match := re.fullmatch(r"addition_(\d+)x(\d+)", key):
            yield key, neighborhood_bias((int(match[1]), int(match[2])), sigma=5.0), expected, TOLERANCE


def gem(case: Case) -> Iterator[Comparison]:
    plain = build_dense("clip", case.tower, position_mode="bicubic_antialias")
    for key in case.file:
        if match := re.fullmatch(r"d(\d+)_it(\d+)_t(\w+|[\d.]+)/(\w+)/feat_gem", key):
            encoder = build_dense(
                "gem",
                case.tower,
                blocks=min(int(match[1]) - 1, case.tower.depth),
                iterations=int(match[2]),
                inverse_temperature=None if match[3] == "None" else float(match[3]),
            )
            yield one(case, encoder, match[4], key)
            yield one(case, plain, match[4], key.replace("feat_gem", "feat_ori"))
        elif match := re.fullmatch(r"(\w+)/logits_patch_textdiv", key):
            encoder = build_dense("gem", case.tower, blocks=min(6, case.tower.depth))
            yield key, encoder(case.image(match[1]), case.text), case.file[key], TOLERANCE
        elif match := re.fullmatch(r"pos_embed_(\d+)x(\d+)_antialias", key):
            weight = case.tower.vision.embeddings.position_embedding.weight
            ours = resize_position_embedding(weight, (int(match[1]), int(match[2])), "bicubic_antialias")
            yield key, ours[None], case.file[key], TOLERANCE


def clip_surgery(case: Case) -> Iterator[Comparison]:
    blocks = min(6, case.tower.depth)
    for name in case.images():
        image, file = case.image(name), case.file
        ensemble = next(value for key, value in file.items() if key.startswith("text_ensemble_"))
        for key, text in (
            (f"{name}/surgery_div", file["text_div"]),
            (f"{name}/surgery_ens", ensemble),
        ):
            encoder = build_dense("clip-surgery", case.tower, blocks=blocks)
            features, logits = read_features(encoder, image, text)
            yield f"{name}/feat", features, file[f"{name}/feat"][:, 1:], TOLERANCE
            yield key, tokens(logits), file[key][:, 1:], TOLERANCE
        redundant = file["text_redundant_empty"][0]
        encoder = build_dense("clip-surgery", case.tower, blocks=blocks, redundant=redundant)
        _, logits = read_features(encoder, image, file["text_div"][: len(file["text_redundant_empty"])])
        yield f"{name}/redundant", tokens(logits), file[f"{name}/surgery_redundant"][:, 1:], TOLERANCE


def sc_clip(case: Case) -> Iterator[Comparison]:
    encoder = build_dense("sc-clip", case.tower, **_sc_clip_blocks(case))
    for name in case.images():
        yield from both(case, encoder, name, name)
        if "trace/lof_scores" in case.file:
            patches = encoder.run_to_last(case.image(name))[:, 1:]
            yield "lof_scores", local_outlier_factor(patches)[0], case.file["trace/lof_scores"], TOLERANCE
            assert find_outliers(patches).nonzero()[:, 1].tolist() == case.file["trace/lof_idx"].tolist()


def _sc_clip_blocks(case: Case) -> dict:
    """The six-block cases were made with blocks of their own; deeper towers with the published ones."""
    return {"pre_block": 3, "post_block": 1, "multi_blocks": (1, 3)} if case.tower.depth == 6 else {}


def resclip(case: Case) -> Iterator[Comparison]:
    base = {"cross_weights": (2.0, 0.3), "feedback_weights": (2.1, 0.7), "feedback_threshold": 0.3}
    variants = {
        "naclip_wo_resi": {"base": "naclip"},
        "clearclip_wo_resi": {"base": "clearclip"},
        "sclip_w_resi": {"base": "sclip"},
        "vanilla_w_resi": {"base": "clip"},
        "rcs_only": {"feedback_weights": None},
        "sfr_only": {"cross_weights": None},
        "no_delete": {"decay_detached": False},
        "nofp16": {},
    }
    for name in case.images():
        image, whole, file = case.image(name), case.inputs[name], case.file
        encoder = build_dense("resclip", case.tower, **base)
        # The published code refines by the colours of the whole image, also where patches leave a margin out.
        state = dataclasses.replace(encoder.encode(image), colors=color_affinity(whole))
        features = tokens(encoder.features(state, case.text))
        yield f"{name}/feat", features, file[f"{name}/feat"][:, 1:], HALF_PRECISION_TOLERANCE
        logits = encoder.decode(state, case.text).logits
        yield f"{name}/logits_patch", logits, file[f"{name}/logits_patch"], HALF_PRECISION_TOLERANCE
        yield f"{name}/trace_rcs", state.cross[0], file[f"{name}/trace_rcs"][:, 1:], TOLERANCE
        classes = encoder.first_classes(state, case.text)[0]
        assert torch.equal(classes, file[f"{name}/trace_patch_matrix"])
        affinity = semantic_affinity(classes, decay_detached=True, sigma=5.0)
        yield f"{name}/trace_sfr", affinity, file[f"{name}/trace_sfr"][0, 1:, 1:], TOLERANCE
        for variant, settings in variants.items():
            if (key := f"{name}/feat_{variant}") in file:
                exact = variant in ("nofp16", "rcs_only")
                tolerance = TOLERANCE if exact else HALF_PRECISION_TOLERANCE
                yield one(case, build_dense("resclip", case.tower, **base | settings), name, key, tolerance)


def proxyclip(case: Case) -> Iterator[Comparison]:
    def given(features: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda images: features.expand(len(images), -1, -1, -1)

    external = next((value for name, value in case.inputs.items() if name.startswith("ext_feats")), None)
    for name in case.images():
        if f"{name}/ext_feats" in case.file:
            encoder = build_dense("proxyclip", case.tower, proxy=given(case.file[f"{name}/ext_feats"]))
            yield from both(case, encoder, name, name)
        if f"{name}/ext_none" in case.file:
            yield one(case, build_dense("clip", case.tower), name, f"{name}/ext_none")
    for key, expected in case.file.items():
        match = re.fullmatch(r"(?:attn_|(\w+)/ext)\d+x\d+_b([\d.]+)_g([\d.]+)", key)
        if match is None or external is None:
            continue
        shift, sharpness = float(match[2]), float(match[3])
        if match[1] is None:
            scores = contrasted_scores(cosine_affinity(tokens(external)), sharpness=sharpness, shift=shift)
            yield key, scores.softmax(dim=-1), expected, TOLERANCE
            continue
        settings = {"proxy": given(external), "sharpness": sharpness, "shift": shift}
        yield one(case, build_dense("proxyclip", case.tower, **settings), match[1], key)
    # nonsq/*: the published token grid is the transpose of the image's; ours is not to match it.


METHODS: dict[str, Callable[[Case], Iterator[Comparison]]] = {
    "SCLIP": sclip,
    "ClearCLIP": clearclip,
    "MaskCLIP": maskclip,
    "NACLIP": naclip,
    "GEM": gem,
    "CLIP_Surgery": clip_surgery,
    "SC-CLIP": sc_clip,
    "ResCLIP": resclip,
    "ProxyCLIP": proxyclip,
}


def build_published(path: Path) -> tuple[Case, DenseEncoder]:
    """The method of a file with the settings that its sliding-window prediction was made with."""
    case = load_case(path)
    settings: dict[str, dict] = {"sc-clip": _sc_clip_blocks(case), "resclip": {"feedback_threshold": 0.3}}
    name = path.stem.split("__")[0].lower()
    return case, build_dense(name, case.tower, **settings.get(name, {}))


def crop_and_stride(path: Path) -> tuple[int, int]:
    """From the file, or from SCLIP's of the same tower, which used the same windows."""
    sibling = path.with_name(f"SCLIP__{path.stem.split('__')[1]}.npz")
    for each in (path, sibling):
        if each.is_file() and "slide/crop_stride" in (file := read(each)):
            crop, stride = file["slide/crop_stride"].tolist()
            return crop, stride
    pytest.skip("no file says which windows were used")


IDS = {"ids": lambda path: f"{path.parent.parent.name}-{path.stem}"}


@pytest.mark.parametrize("path", METHOD_FILES, **IDS)
@torch.no_grad()
def test_method_equals_published(path: Path) -> None:
    method = path.stem.split("__")[0]
    if method == "MaskCLIP":  # its release reads CLIP with exact GELU and another epsilon
        case = load_case(path, "gelu")
        for module in case.tower.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6
    else:
        case = load_case(path)
    compared = 0
    for what, ours, theirs, tolerance in METHODS[method](case):
        assert_close(ours, theirs, f"{path.stem} {what}", tolerance)
        compared += 1
    assert compared, f"{path.name} holds nothing that this test knows"


@pytest.mark.parametrize("path", METHOD_FILES, **IDS)
@torch.no_grad()
def test_sliding_window_prediction_equals_published(path: Path) -> None:
    if path.stem.split("__")[0] not in ("SCLIP", "ClearCLIP", "NACLIP", "SC-CLIP", "ResCLIP"):
        pytest.skip("no whole-image prediction of this method with this tower")
    case, encoder = build_published(path)
    if "predict/pred" not in case.file:
        pytest.skip("no whole-image prediction in the file")
    expected = case.file.get("predict_nopamr/pred", case.file["predict/pred"])[0]
    ratio = expected.shape[0] / expected.shape[1]
    candidates = [x for x in case.inputs.values() if x.ndim == 4 and x.shape[1] == 3]
    image = min(candidates, key=lambda x: abs(x.shape[-2] / x.shape[-1] - ratio))
    working = (image.shape[-2], image.shape[-1])
    windows = window_grid(working, *crop_and_stride(path))
    layout = WindowLayout(
        (expected.shape[0], expected.shape[1]), working, windows, encoder.patch_size, "centre"
    )
    parts = torch.cat([image[..., top:bottom, left:right] for top, left, bottom, right in windows.boxes])
    logits = encoder(parts, case.text)
    class_ids = case.file.get("query_idx", torch.arange(len(case.text)))
    protocol = InferenceProtocol(activation="linear", logit_scale=float(case.file.get("logit_scale", 40)))
    labels, *_ = decide(
        [(slice(0, len(case.text)), (logits,))], ImageLayout.single(layout), protocol, class_ids=class_ids
    )
    different = (torch.from_numpy(labels.astype(np.int64)) != expected).double().mean().item()
    assert different <= 1e-3, f"{path.stem}: {different:.2%} of the pixels differ"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
@torch.no_grad()
def test_color_refinement_equals_published(folder: Path) -> None:
    files = sorted(folder.glob("postprocess_*.npz"))
    if not files:
        pytest.skip("no post-processing case")
    file = read(files[0])
    image, logits = file["pamr/img"], file["logits"]
    for key, expected in file.items():
        if match := re.fullmatch(r"pamr/s(\d+)_d(\d+(?:_\d+)*)", key):
            dilations = [int(part) for part in match[2].split("_")]
            ours = pamr(logits, color_affinity(image, dilations), steps=int(match[1]))
        elif key == "pamr/affinity":
            ours = color_affinity(image).weights[:, None]
        elif key == "pamr/lowres_mask":
            ours = pamr(logits[..., ::3, ::3], color_affinity(image), steps=10)
        else:
            continue
        assert_close(ours, expected, key)
