"""Whatever a parser is given: what it promises, or the one exception that it names. Examples are drawn by a fixed seed."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lexiseg.clip.vocabulary import Vocabulary
from lexiseg.constants import IGNORE_INDEX
from lexiseg.data.class_files import parse_classes
from lexiseg.data.splits import make_split, seen_label_map
from lexiseg.errors import ConfigError, DataError
from lexiseg.masks.sa1b import read_mask_file
from lexiseg.ops.run_length import compress_counts, decode_rle, encode_rle, expand_counts, sample_rle

settings.register_profile(
    "lexiseg",
    derandomize=True,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("lexiseg")

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
LETTERS = st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters=",;#\n")
NAMES = st.lists(st.text(LETTERS, min_size=1, max_size=9), min_size=1, max_size=8, unique_by=str.lower)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
MASKS = st.tuples(st.integers(1, 13), st.integers(1, 11), st.integers(0, 2**32 - 1), st.floats(0, 1)).map(
    lambda drawn: np.random.default_rng(drawn[2]).random(drawn[:2]) < drawn[3]
)


@given(st.lists(TEXT, max_size=9))
def test_lines_of_a_class_file(lines):
    try:
        words = parse_classes(lines, "a file")
    except DataError:
        return
    flat = [word for group in words for word in group]
    assert 0 < len(words) <= IGNORE_INDEX
    assert len(set(flat)) == len(flat)
    assert all(word and word == " ".join(word.split()) for word in flat)


@given(NAMES, st.integers(0, 3))
def test_what_was_written_as_a_class_file_is_read(names, synonyms):
    groups = [names[: synonyms + 1], *([name] for name in names[synonyms + 1 :])]
    lines = [" ;  ".join(group) for group in groups]
    assert parse_classes(["# a comment", *lines], "a file") == tuple(map(tuple, groups))


@given(TEXT)
def test_typed_words(text):
    try:
        vocabulary = Vocabulary.from_text(text)
    except ConfigError:
        return
    flat = [word.lower() for group in vocabulary.words for word in group]
    assert flat
    assert len(set(flat)) == len(flat)
    assert all(word.strip() == word != "" for word in flat)


@given(NAMES, st.sampled_from([",", " , ", "\n"]))
def test_what_was_typed_comes_back_in_order(names, between):
    assert Vocabulary.from_text(between.join(names)).names == tuple(names)


@given(MASKS)
def test_masks_survive_both_forms_of_run_lengths(mask):
    counts = encode_rle(mask)
    assert (decode_rle(counts, mask.shape) == mask).all()
    assert expand_counts(compress_counts(counts)).tolist() == counts
    rows, columns = np.arange(0, mask.shape[0], 2), np.arange(0, mask.shape[1], 3)
    assert (sample_rle(np.array(counts), mask.shape, rows, columns) == mask[::2, ::3]).all()


@given(st.lists(st.integers(0, 2**40), max_size=20))
def test_run_lengths_of_any_size_survive_the_string(counts):
    assert expand_counts(compress_counts(counts)).tolist() == counts


@given(st.text(max_size=40) | st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=40))
def test_strings_that_are_none(text):
    try:
        counts = expand_counts(text)
    except ValueError:
        return
    assert counts.min(initial=0) >= 0


@given(
    PLAIN
    | st.fixed_dictionaries(
        {
            "image": PLAIN | st.fixed_dictionaries({"height": PLAIN, "width": PLAIN}),
            "annotations": PLAIN
            | st.lists(
                st.fixed_dictionaries(
                    {"segmentation": PLAIN | st.fixed_dictionaries({"size": PLAIN, "counts": PLAIN})}
                ),
                max_size=2,
            ),
        }
    )
)
def test_mask_files(tmp_path, content):
    path = Path(tmp_path, "a.json")
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        masks = read_mask_file(path).masks
    except DataError:
        return
    assert all(mask.shape == masks.size and mask.any() for mask in masks)


@given(st.data(), NAMES, st.sampled_from(["inductive", "transductive", "supervised"]))
def test_splits(data, names, setting):
    unseen = data.draw(st.lists(st.sampled_from(names), max_size=5))
    try:
        split = make_split(names, name="drawn", unseen=unseen, setting=setting)
    except ConfigError:
        assert len(set(unseen)) < len(unseen) or not unseen or set(unseen) == set(names)
        return
    assert set(split.seen) | set(split.unseen) == set(names)
    assert not set(split.seen) & set(split.unseen)
    shown = [index for index, code in enumerate(seen_label_map(split)[: len(names)]) if code == index]
    hidden = [] if setting == "supervised" else [names.index(name) for name in unseen]
    assert shown == [index for index in range(len(names)) if index not in hidden]


@given(PLAIN, PLAIN, PLAIN, PLAIN, PLAIN)
def test_splits_of_anything(name, unseen, seen, setting, pixels):
    with pytest.raises(ConfigError):
        make_split(("dog", "cat"), name=name, unseen=unseen, seen=seen, setting=setting, unseen_pixels=pixels)
