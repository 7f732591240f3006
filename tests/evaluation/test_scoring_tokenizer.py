"""Which tokenizer scores captions: the documented rule, and its name in the signature."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.config import MetricConfig, TokenizerConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.errors import ConfigError
from captioner.evaluation.evaluation import score_captions
from captioner.evaluation.scoring_tokenizer import scoring_tokenizer
from captioner.text.scripts import mostly_unspaced

ENGLISH, CHINESE, ARABIC = ["A dog runs."], ["一只狗在跑"], ["كلب يجري"]


@pytest.mark.parametrize(
    ("chosen", "trained", "references", "expected"),
    [
        (None, "ptb", CHINESE, "ptb"),
        (None, "whitespace", ENGLISH, "whitespace"),
        (None, "bpe", ENGLISH, "ptb"),
        (None, "bpe", ARABIC, "ptb"),
        (None, "bpe", CHINESE, "char"),
        (None, "bpe", ["日本の犬が走る dog"], "char"),
        ("char", "bpe", ENGLISH, "char"),
        ("ptb", "char", CHINESE, "ptb"),
    ],
)
def test_the_rule(chosen: str | None, trained: str, references: list[str], expected: str) -> None:
    metric = MetricConfig(names=["Bleu"], tokenizer=chosen)
    assert scoring_tokenizer(metric, TokenizerConfig(trained), references).name == expected


def test_learned_units_do_not_score() -> None:
    with pytest.raises(ConfigError, match="not be comparable between models"):
        scoring_tokenizer(MetricConfig(tokenizer="bpe"), TokenizerConfig(), ENGLISH)


def test_the_java_backend_stays_with_ptb() -> None:
    java = TokenizerConfig("ptb", backend="java")
    assert scoring_tokenizer(MetricConfig(), java, ENGLISH) == java
    assert scoring_tokenizer(MetricConfig(tokenizer="ptb"), java, ENGLISH) == java
    assert scoring_tokenizer(MetricConfig(tokenizer="char"), java, ENGLISH) == TokenizerConfig("char")


def test_the_signature_names_it() -> None:
    dataset = CaptionDataset("folder", "val", (CaptionedImage("a", Path("a.png"), tuple(CHINESE)),))
    for chosen, expected in ((None, "char"), ("whitespace", "whitespace")):
        metric = MetricConfig(names=["Bleu"], tokenizer=chosen)
        scores = score_captions({"a": "一只狗"}, dataset, metric, TokenizerConfig("bpe"))
        assert scores.signature["tokenizer"] == expected


def test_most_letters_decide() -> None:
    assert mostly_unspaced(["一二三四", "abc"])
    assert not mostly_unspaced(["一二三四", "abcde"])
    assert not mostly_unspaced([])
