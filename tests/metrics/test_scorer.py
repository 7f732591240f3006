"""`score`: names, ids, order, tokens, and unavailable metrics."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import TokenizerConfig
from captioner.errors import ConfigError, DataError
from captioner.metrics import score, score_tokens
from captioner.text import build_tokenizer

HYPOTHESES = {1: "A dog runs on the grass.", "two": "Two cats asleep", 3: ""}
REFERENCES = {
    3: ["A red car.", "The car is parked"],
    1: ["A dog is running on grass", "Dogs run.", "A brown dog runs!"],
    "two": ["Two cats sleep on a bed."],
}
CHEAP = ("Bleu", "ROUGE_L", "CIDEr", "CIDEr_plain")
NAMES = {"Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr", "CIDEr_plain"}

text = st.text(st.sampled_from(" .,'AaBb1½\u00a0犬"), max_size=20)
captions = st.dictionaries(st.integers(0, 99), st.tuples(text, st.lists(text, min_size=1, max_size=3)), min_size=1)


def test_scores_of_a_call() -> None:
    scores = score(HYPOTHESES, REFERENCES, names=CHEAP)
    assert scores.corpus.keys() == NAMES
    assert list(scores.per_image) == [1, "two", 3]
    assert all(scores_of_image.keys() == NAMES for scores_of_image in scores.per_image.values())
    assert scores.unavailable == {}
    tokenizer = build_tokenizer(TokenizerConfig())
    expected = {"tokenizer": "ptb", "tokenizer_version": tokenizer.version, "images": 3, "references": 6}
    assert scores.signature.items() >= expected.items()
    assert scores.signature["references_per_image"] == [1, 3]


def test_default_metrics() -> None:
    assert score(HYPOTHESES, REFERENCES).corpus.keys() == NAMES - {"CIDEr_plain"}


def test_tokens_and_text_get_equal_scores() -> None:
    tokenize = build_tokenizer(TokenizerConfig()).tokenize_all
    by_text = score(HYPOTHESES, REFERENCES, names=CHEAP)
    by_tokens = score_tokens(
        tokenize(list(HYPOTHESES.values())), [tokenize(REFERENCES[image_id]) for image_id in HYPOTHESES], names=CHEAP
    )
    assert by_text.corpus == by_tokens.corpus
    assert [scores_of_image["CIDEr"] for scores_of_image in by_text.per_image.values()] == by_tokens.per_image[
        "CIDEr"
    ].tolist()


@settings(max_examples=40, deadline=None)
@given(captions, st.integers(0, 1000))
def test_the_order_of_images_does_not_matter(images: dict[int, Any], seed: int) -> None:
    """All scores are equal bit by bit."""
    shuffled = list(images)
    random.Random(seed).shuffle(shuffled)
    one = score({i: images[i][0] for i in images}, {i: images[i][1] for i in images}, names=CHEAP)
    other = score({i: images[i][0] for i in shuffled}, {i: images[i][1] for i in sorted(images)}, names=CHEAP)
    assert one.corpus == other.corpus
    assert one.per_image == other.per_image
    assert one.signature == other.signature


@settings(max_examples=40, deadline=None)
@given(captions)
def test_scores_are_in_their_ranges(images: dict[int, Any]) -> None:
    scores = score({i: images[i][0] for i in images}, {i: images[i][1] for i in images}, names=CHEAP)
    for scores_of_image in (scores.corpus, *scores.per_image.values()):
        for name, value in scores_of_image.items():
            assert 0 <= value <= (10 if name.startswith("CIDEr") else 1) + 1e-9, name


def test_characters_are_tokens() -> None:
    """A space is a token of the `char` tokenizer, not the end of one."""
    scores = score({1: "ab c"}, {1: ["ab c", "x"]}, tokenizer=TokenizerConfig(name="char"), names=["Bleu", "ROUGE_L"])
    assert scores.corpus["Bleu_4"] == pytest.approx(1.0)
    assert scores.corpus["ROUGE_L"] == pytest.approx(1.0)


def test_an_unknown_name_is_answered_with_near_misses() -> None:
    with pytest.raises(ConfigError, match=r"'CIDEr_D' does not exist. Did you mean CIDEr"):
        score(HYPOTHESES, REFERENCES, names=["Bleu", "CIDEr_D"])
    with pytest.raises(ConfigError, match="is one string"):
        score(HYPOTHESES, REFERENCES, names="Bleu")


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ({1: "a"}, {1: ["a"], 2: ["b"]}, r"1 of 2 image ids have no caption \(2\)"),
        ({1: "a", 2: "b"}, {1: ["a"]}, r"1 image ids are unknown \(2\)"),
        ({"1": "a"}, {1: ["a"]}, "text on one side"),
        ({}, {}, "no references"),
        ({1: ["a"]}, {1: ["a"]}, "expected one string"),
        ({1: None}, {1: ["a"]}, "expected one string"),
        ({1: "a"}, {1: "a dog"}, "expected a list of strings"),
        ({1: "a"}, {1: [None]}, "expected a list of strings"),
        ({1: "a"}, {1: []}, "1 has no references"),
    ],
)
def test_bad_input_is_named(hypotheses: Any, references: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(hypotheses, references)


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), ([["a"]], []), ([["a"]], [[]])])
def test_invalid_tokens_are_errors(hypotheses: Any, references: Any) -> None:
    with pytest.raises(DataError, match="at least one reference in every list"):
        score_tokens(hypotheses, references)


def test_unavailable_metrics_are_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    scores = score(HYPOTHESES, REFERENCES, names=["Bleu", "SPICE"])
    assert "no `java` on the PATH" in scores.unavailable["SPICE"]
    assert "SPICE" not in scores.corpus
    assert "SPICE" not in scores.per_image[1]


def test_diversity() -> None:
    scores = score(HYPOTHESES, REFERENCES, names=["Diversity"])
    assert scores.corpus["Vocabulary"] == 9
    assert "training captions" in scores.unavailable["Novel"]
    assert scores.per_image == {1: {}, "two": {}, 3: {}}
    training = ["two cats asleep.", "A dog", "The dog"]
    scores = score(HYPOTHESES, REFERENCES, names=["Diversity"], training_captions=training, rare_at_most=1)
    assert scores.corpus["Novel"] == pytest.approx(2 / 3)
    # Rare in training: two, cats, asleep, a, the. In references: 1: a; two: two, cats, a; 3: a, the.
    assert scores.corpus["Rare_recall"] == pytest.approx(3 / 6)
    with pytest.raises(ConfigError, match="needs the training captions"):
        score(HYPOTHESES, REFERENCES, rare_at_most=1)
