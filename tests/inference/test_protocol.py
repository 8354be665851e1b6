import pytest

from lexiseg.errors import ConfigError
from lexiseg.inference.protocol import CASCADE, CASCADE_TRANSDUCTIVE, PUBLISHED, InferenceProtocol


def test_published_values():
    assert (CASCADE.short_side, CASCADE.window, CASCADE.stride, CASCADE.seen_penalty) == (512, 512, 426, 0.1)
    assert CASCADE.activation == "sigmoid"
    assert CASCADE_TRANSDUCTIVE.seen_penalty == 0
    free = PUBLISHED["training-free"]
    assert (free.short_side, free.window, free.stride, free.activation) == (336, 224, 112, "linear")


def test_training_free_scales_with_the_clip():
    toy = InferenceProtocol.training_free(native_side=48)
    assert (toy.short_side, toy.window, toy.stride) == (72, 48, 24)


def test_goes_through_plain_values():
    assert InferenceProtocol.from_dict(CASCADE.to_dict()) == CASCADE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "softmax"}, "activation: expected one of sigmoid, linear, scores, got 'softmax'"),
        ({"background": "wall"}, "expected one of none, class"),
        ({"window": 0}, "window is 0; expected a whole number of at least 1"),
        ({"short_side": 3.5}, "short_side: expected a whole number or null, got 3.5"),
        ({"window_batch": True}, "protocol.window_batch: expected a whole number, got True"),
        ({"seen_penalty": "none"}, "protocol.seen_penalty: expected a number, got 'none'"),
        ({"stride": 7}, "stride is 7 but there is no window"),
        ({"window": 7, "stride": 8}, "leaves gaps between windows of 7; use at most 7"),
        ({"logit_scale": 0.0}, "logit_scale: expected above 0, got 0.0"),
        ({"probability_threshold": 1.0}, "probability_threshold: expected from 0 to below 1, got 1.0"),
        ({"seen_penalty": -0.1}, "seen_penalty: expected from 0 to below 1, got -0.1"),
        ({"seen_penalty": 0.1, "activation": "linear"}, "seen_penalty 0.1 is defined on sigmoid scores"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        InferenceProtocol.from_dict(settings)


def test_unknown_settings_are_named():
    with pytest.raises(ConfigError, match="no setting strides; there are name, short_side"):
        InferenceProtocol.from_dict({"strides": 3})
