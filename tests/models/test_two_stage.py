"""Any proposer with any region classifier: every pair that fits, those that do not, and the published pairs to the bit."""

import numpy as np
import pytest
import torch

import pair_cases
import region_model_cases as cases
import stage_towers
from lexiseg.errors import ConfigError
from lexiseg.losses.segment_criterion import SegmentCriterion, SegmentLossSettings
from lexiseg.masks.mask_set import MaskSet
from lexiseg.masks.segment_anything import SegmentAnythingSettings
from lexiseg.models.registry import build_model, model_settings
from lexiseg.training.optim import OptimSettings
from lexiseg.types import SegmentTargets

HEIGHT, WIDTH = 64, 96
TRAINED = [each for each in pair_cases.PAIRS if each not in pair_cases.UNTRAINED]

each_pair = pytest.mark.parametrize(("proposer", "classifier"), pair_cases.PAIRS)


@pytest.mark.one_in(3)
@each_pair
@torch.no_grad()
def test_every_pair_names_what_it_finds(proposer, classifier):
    model = pair_cases.pair(proposer, classifier)
    images, words = cases.photographs(model, 2), cases.spoken(model.tower.embed_dim)
    found = model.classify(model.encode(images), words)
    assert found.masks.shape[:2] == found.scores.shape[:2]
    assert found.scores.shape[2] == cases.CLASSES
    assert found.maps.shape[:2] == (2, cases.CLASSES)
    assert found.maps.shape[2] * WIDTH == found.maps.shape[3] * HEIGHT
    assert found.scores.isfinite().all()
    assert (found.scores >= 0).all()
    assert found.scores.std(dim=-1).max() > 1e-3, "classes differ"
    nothing = torch.zeros_like(found.scores[..., 0]) if found.nothing is None else found.nothing
    total = found.scores.sum(-1)
    assert ((total + nothing - 1).abs() < 1e-4).logical_or(total == 0).all()
    alone = torch.cat([model.classify(model.encode(image[None]), words).maps for image in images])
    torch.testing.assert_close(alone, found.maps, rtol=1e-3, atol=1e-5)


@each_pair
def test_every_pair_names_masks_that_are_given(proposer, classifier):
    model = pair_cases.pair(proposer, classifier)
    images, words = cases.photographs(model, 1), cases.spoken(model.tower.embed_dim)
    masks = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, :, : WIDTH // 2] = True
    masks[1, -HEIGHT // 3 :, -WIDTH // 3 :] = True
    masks[2, 5, 7] = True
    scores = model.name_masks(images, masks, words)
    assert scores.shape == (3, cases.CLASSES)
    assert scores.isfinite().all()
    assert not torch.allclose(scores[0], scores[1], rtol=1e-3)


@pytest.mark.one_in(6)
@pytest.mark.parametrize(("proposer", "classifier"), TRAINED)
def test_every_pair_learns_with_the_set_criterion(proposer, classifier):
    model = pair_cases.pair(proposer, classifier).train()
    images = cases.photographs(model, 2)
    text = cases.spoken(model.tower.embed_dim).text
    output = model(images, text)
    assert output.predictions[-1].class_logits.shape[2] == cases.CLASSES + 1
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, :31], masks[1, 31:, 41:] = True, True
    targets = [SegmentTargets(torch.tensor([1, 3]), masks), SegmentTargets(torch.tensor([0]), masks[:1])]
    loss = SegmentCriterion(SegmentLossSettings(points=97))(output.predictions, targets)["loss"]
    assert loss.isfinite()
    loss.backward()
    unmoved = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert not unmoved
    groups = model.parameter_groups(OptimSettings())
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(("proposer", "classifier"), pair_cases.UNTRAINED)
def test_a_pair_with_nothing_to_learn_says_so(proposer, classifier):
    model = pair_cases.pair(proposer, classifier)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ConfigError, match=f"'given' with classifier '{classifier}' has nothing that learns"):
        model(cases.photographs(model, 1), cases.spoken(model.tower.embed_dim).text)


@pytest.mark.parametrize("kind", stage_towers.KINDS)
@pytest.mark.parametrize(
    ("proposer", "classifier"),
    [
        ("mask2former", "mask_pooling"),
        ("maskformer", "mask_pooling"),
        ("mask2former", "masked_crops"),
        ("given", "soft_pooling"),
    ],
)
@torch.no_grad()
def test_convolutional_towers(kind, proposer, classifier, tiny_clip):
    model = pair_cases.pair(proposer, classifier, stage_towers.stage_tower(kind, tiny_clip))
    words = cases.spoken(model.tower.embed_dim)
    found = model.classify(model.encode(cases.photographs(model, 2)), words)
    assert found.scores.isfinite().all()
    assert found.scores.std(dim=-1).max() > 1e-3


@pytest.mark.parametrize(
    ("proposer", "classifier", "message"),
    [
        (
            "given",
            "segment_embedding",
            "'segment_embedding' compares the embeddings .* gives none; take masked_crops",
        ),
        (
            "given",
            "pooled_queries",
            "'pooled_queries' compares .* or a proposer with embeddings: mask2former",
        ),
    ],
)
def test_pairs_that_do_not_fit(proposer, classifier, message):
    with pytest.raises(ConfigError, match=message):
        pair_cases.pair(proposer, classifier)


@pytest.mark.parametrize(
    ("proposer", "classifier", "message"),
    [
        (
            "maskformer",
            "shadow_tokens",
            "'shadow_tokens' runs class tokens .* this CLIP is a ConvNeXt; take mask_pooling",
        ),
        ("side_adapter", "mask_pooling", "'side_adapter' needs a CLIP with a ViT; got a ConvNeXt"),
    ],
)
def test_a_clip_that_does_not_fit(proposer, classifier, message, tiny_clip):
    with pytest.raises(ConfigError, match=message):
        pair_cases.pair(proposer, classifier, stage_towers.stage_tower("ConvNeXt", tiny_clip))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"proposer": {"name": "boxes"}},
            "model.proposer.name: expected one of mask2former, .*, got 'boxes'",
        ),
        ({"proposer": "given"}, "model.proposer.name: expected one of .*, got 'given'"),
        ({"classifier": {"name": ["x"]}}, "model.classifier.name: expected one of segment_embedding"),
        (
            {"classifier": {"name": "soft_pooling", "heat": 1}},
            "model.classifier 'soft_pooling': no setting heat; there are",
        ),
        (
            {"proposer": {"name": "mask2former", "width": 31}},
            "^model.proposer.width: expected at least 32, got 31",
        ),
        (
            {"proposer": {"name": "given", "provider": "boxes"}},
            "no mask provider 'boxes'; choose one of superpixels",
        ),
        (
            {"proposer": {"name": "given", "options": [1]}},
            "model.proposer.options: expected settings by name",
        ),
        (
            {"proposer": {"name": "given", "options": {"rgions": [5]}}},
            "^model.proposer.options: superpixels does not take .*rgions",
        ),
        (
            {"classifier": {"name": "masked_crops", "prompt_depth": 1}},
            "^model.classifier.style: mask prompt tokens read crops of style 'region', got 'cropmask'; .* model.classifier.p",
        ),
    ],
)
def test_settings_that_cannot_be(changes, message):
    given = pair_cases.settings("maskformer", "mask_pooling") | changes
    with pytest.raises(ConfigError, match=message):
        build_model(given, cases.tiny_tower())


def test_settings_are_complete_and_plain():
    model = pair_cases.pair("maskformer", "soft_pooling")
    told = model_settings(model)
    assert told["proposer"]["backbone_depths"] == [1, 2, 1, 1]
    assert told["classifier"] == {"name": "soft_pooling", "temperature": 0.1}
    again = build_model(told, model.tower)
    assert again.settings == model.settings
    again.load_state_dict(model.state_dict())


RENAMED = {
    "fc_clip": ("mask2former", "pooled_queries", {"stages.": "proposer.stages."}),
    "san": ("side_adapter", "shadow_tokens", {"early.": "proposer.blocks."}),
    "open_seg": ("cross_attention", "soft_pooling", {"alignment.": "classifier.alignment."}),
    "zegformer": ("maskformer", "segment_embedding", {}),
}
"""Published models whose pair alone can be asked; what of their weights is called otherwise than PART.network."""


@pytest.mark.parametrize("name", RENAMED)
@torch.no_grad()
def test_the_published_pairs_are_the_published_models(name):
    more = {
        "fc_clip": {"seen_share": 0.0, "unseen_share": 0.0},
        "zegformer": {"branch": "segment"},
        "san": {"scale": 10.0},
        "open_seg": {"temperature": 0.1},
    }[name]
    published = pair_cases.published(name, **more)
    proposer, classifier, renamed = RENAMED[name]
    changes = {"hidden": 0} if name == "zegformer" else {}
    ours = pair_cases.pair(proposer, classifier, published.tower, **changes)
    places = renamed | {"proposer.": "proposer.network.", "classifier.": "classifier.network."}
    weights = {}
    for key, value in published.state_dict().items():
        start = next(place for place in places if key.startswith(place))
        weights[places[start] + key[len(start) :]] = value
    left = ours.load_state_dict(weights, strict=False)
    assert not left.unexpected_keys
    assert {key.partition(".")[0] for key in left.missing_keys} <= {"thing"}
    images, words = cases.photographs(published, 2), cases.spoken(published.tower.embed_dim)
    theirs = published.classify(published.encode(images), words)
    state = ours.encode(images)
    if name == "open_seg":  # which has nothing that says whether a region is a thing
        state = state._replace(things=None)
    mine = ours.classify(state, words)
    torch.testing.assert_close(mine.masks, theirs.masks)
    # FC-CLIP's release adds 1e-8 to each probability.
    torch.testing.assert_close(mine.scores, theirs.scores, rtol=1e-4, atol=1e-6)


class Halves:
    """A provider: the upper half, and of bright photographs a corner too."""

    name, settings = "halves", {}

    def __init__(self):
        self.seen = []

    def __call__(self, image):
        self.seen.append(image)
        masks = np.zeros((2, *image.shape[:2]), dtype=bool)
        masks[0, : image.shape[0] // 2] = True
        masks[1, -7:, -5:] = image.mean() > 100
        return MaskSet.from_masks(masks)


@torch.no_grad()
def test_a_provider_sees_the_photograph_and_padding_is_no_region():
    model = pair_cases.pair("given", "mask_pooling")
    model.proposer.provider = provider = Halves()
    raw = torch.randint(0, 256, (2, 3, 41, 53), generator=torch.Generator().manual_seed(3)).float()
    raw[0] = (raw[0] / 2).floor()
    images = torch.nn.functional.pad(model.normalize(raw), (0, 96 - 53, 0, 64 - 41))
    state = model.encode(images, (41, 53))
    for seen, photograph in zip(provider.seen, raw, strict=True):
        assert np.array_equal(seen, photograph.round().byte().permute(1, 2, 0).numpy())
    inside = state.masks > 0
    assert state.masks.shape == (2, 2, 64, 96)
    assert inside[:, 0, :20, :53].all()
    assert inside.sum((2, 3)).tolist() == [[20 * 53, 0], [20 * 53, 35]]


@pytest.mark.parametrize(
    ("proposer", "classifier", "place", "message"),
    [
        (
            "maskformer",
            "masked_crops",
            "region_classifiers.masked_crops",
            "'masked_crops' cuts regions out .* --to folder",
        ),
        ("given", "mask_pooling", "proposers.given", "no exported program holds a provider of masks"),
    ],
)
def test_what_no_program_holds(proposer, classifier, place, message, monkeypatch):
    model = pair_cases.pair(proposer, classifier)
    monkeypatch.setattr(f"lexiseg.models.{place}.is_exporting", lambda: True)
    with pytest.raises(ConfigError, match=message):
        model.encode(cases.photographs(model, 1))


def test_messages_name_keys_that_there_are():
    crops = pair_cases.pair("maskformer", "masked_crops")
    assert crops.untraceable.startswith("classifier 'masked_crops' cuts regions out one by one")
    swin = pair_cases.settings("maskformer", "mask_pooling")
    swin["proposer"] |= cases.SWIN
    assert build_model(swin, cases.tiny_tower()).untraceable.endswith("model.proposer.backbone=resnet")
    for proposer, key in (("given", "model.classifier"), ("side_adapter", "model.proposer")):
        model = pair_cases.pair(proposer, "shadow_tokens")
        with pytest.raises(ConfigError, match=f"set a larger {key}.resolution"):
            model.encode(torch.zeros(1, 3, 8, 8))
    asked = pair_cases.settings("given", "mask_pooling")
    asked["proposer"] |= {"provider": "sam", "options": {"rgions": 5}}
    model = build_model(asked, cases.tiny_tower())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lexiseg.models.mask_models.sam", lambda *_: SegmentAnythingSettings(rgions=5))
        with pytest.raises(ConfigError, match="^model.proposer.options: sam does not take"):
            model.encode(cases.photographs(model, 1))


@torch.no_grad()
def test_padding_makes_whole_patches_for_shadow_tokens_of_bare_masks():
    """Patches of 8 at half the size are 16 pixels: what is left over would shift the masks on the grid."""
    model = pair_cases.pair("given", "shadow_tokens", resolution=0.5)
    assert model.patch_size == 2 * model.tower.patch_size
    with pytest.raises(ConfigError, match=r"^model\.classifier\.resolution: a patch of 8 pixels at 0\.3"):
        pair_cases.pair("given", "shadow_tokens", resolution=0.3)


@pytest.mark.parametrize("grid", [(3, 5), (7, 11), (13, 3)], ids=str)
@torch.no_grad()
def test_a_side_adapter_and_its_clip_see_the_same_picture(grid):
    """Side patches of 8, and CLIP's of 8 at half the size: of an odd number of side patches, half a CLIP patch were dropped."""
    model = pair_cases.pair("side_adapter", "shadow_tokens")
    assert model.patch_size == 16
    height, width = (side * model.patch_size for side in grid)
    images = cases.photographs(model, 1, height=height, width=width)
    early = model.proposer.early(model.tower, images)
    assert early.grid == grid
    found = model.classify(model.encode(images), cases.spoken(model.tower.embed_dim))
    assert found.masks.shape[2:] == (2 * grid[0], 2 * grid[1])
    for edge in ((..., -1, slice(None)), (..., slice(None), -1)):
        other = images.clone()
        other[edge] += 3
        tokens = model.proposer.early(model.tower, other).blocks[0]
        assert not torch.equal(tokens, early.blocks[0]), "the last row and column are read"


def test_given_masks_without_a_provider_are_handed_in():
    given = pair_cases.settings("given", "mask_pooling")
    given["proposer"]["provider"] = None
    model = build_model(given, cases.tiny_tower()).eval()
    images, words = cases.photographs(model, 1), cases.spoken(model.tower.embed_dim)
    with pytest.raises(
        ConfigError, match="'given' has no provider; hand masks in .* model.proposer.provider"
    ):
        model.encode(images)
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, :20], masks[1, 30:] = True, True
    assert model.name_masks(images, masks, words).shape == (2, cases.CLASSES)


@torch.no_grad()
def test_a_region_that_the_classifier_cannot_see_adds_nothing():
    model = pair_cases.pair("given", "mask_pooling")
    images, words = cases.photographs(model, 1), cases.spoken(model.tower.embed_dim)
    masks = torch.full((1, 2, HEIGHT, WIDTH), -100.0)
    masks[0, 0, :40] = 100.0
    scores = model.classify(model.encode_masks(images, masks), words).scores[0]
    assert scores[0].sum() == pytest.approx(1.0, abs=1e-5)
    assert scores[1].sum() == 0
