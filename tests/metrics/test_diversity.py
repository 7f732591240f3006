"""Diversity scores, computed by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.metrics.diversity import diversity, rare_word_recall, share_novel
from captioner.text import ptb_tokenize


def test_by_hand() -> None:
    scores = diversity([["a", "dog", "on", "a"], ["a", "dog"], []])
    assert scores == {
        "Distinct_1": 3 / 6,
        "Distinct_2": 3 / 4,
        "Vocabulary": 3.0,
        "Mean_length": 2.0,
        "Bad_ending": 2 / 3,
    }


def test_empty_captions() -> None:
    assert diversity([[], []]) == {
        "Distinct_1": 0.0,
        "Distinct_2": 0.0,
        "Vocabulary": 0.0,
        "Mean_length": 0.0,
        "Bad_ending": 1.0,
    }


def test_novel_captions_differ_from_all_training_captions() -> None:
    assert share_novel([["a", "dog"], ["a"], ["dog", "a"], ["a", "dog"]], [["a", "dog"], ["a", "dog", "a"]]) == 0.5


def test_rare_words_count_once_per_image() -> None:
    training = [["a", "zebra"], ["a", "dog"], ["a", "dog"]]
    references = [[["a", "zebra"], ["zebra", "dog"]], [["a", "lynx"]], [["a", "zebra"]]]
    hypotheses = [["zebra", "zebra"], ["lynx"], ["a"]]
    assert rare_word_recall(hypotheses, references, training, most=1) == 0.5
    assert rare_word_recall(hypotheses, references, training, most=2) == pytest.approx(1 / 3)
    assert rare_word_recall([["a"]], [[["a"]]], training, most=1) is None


def test_reference_captions_have_few_bad_endings(real_data: Path) -> None:
    """Reference captions hardly ever end in one of the words of BAD_ENDINGS."""
    annotations = json.loads((real_data / "coco_text" / "captions_val2017.json").read_text("utf-8"))["annotations"]
    tokens = [ptb_tokenize(row["caption"]) for row in annotations[:5000]]
    assert diversity(tokens)["Bad_ending"] < 0.01
