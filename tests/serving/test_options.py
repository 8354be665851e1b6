import pytest

from lexiseg.errors import ConfigError
from lexiseg.serving.limits import Limits
from lexiseg.serving.options import Rules, read_options

LIMITS = Limits(words=5)


def test_rules_of_a_form():
    texts = {"words": "dog; puppy, cat", "background": "sky, wall", "threshold": "0.5", "refine": "0"}
    rules, output = read_options({**texts, "output": "labels"}, LIMITS)
    assert rules.words.words == (("dog", "puppy"), ("cat",))
    assert (rules.background, rules.threshold, rules.refine) == (("sky", " wall"), 0.5, 0)
    assert output == "labels"
    assert read_options(texts, LIMITS)[0] == rules  # equal rules share a batch
    assert hash(read_options(texts, LIMITS)[0]) == hash(rules)


def test_what_is_left_out_or_empty_is_the_models_own():
    rules, output = read_options({"words": "dog", "threshold": " ", "refine": "", "background": ""}, LIMITS)
    assert rules == Rules(rules.words)
    assert output == "json"


def test_synonyms_and_background_count_among_the_words():
    read_options({"words": "a; b, c", "background": "d, e"}, LIMITS)
    with pytest.raises(ConfigError, match="6 were given, at most 5"):
        read_options({"words": "a; b, c, f", "background": "d, e"}, LIMITS)
