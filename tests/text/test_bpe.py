"""Byte-pair encoding: it reverses, learns the merges of the definition, and is the same from its stored model."""

from __future__ import annotations

import importlib
import pickle
import random
import sys
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import TokenizerConfig
from captioner.errors import CheckpointError, ConfigError, DataError
from captioner.text.bpe import BPE
from captioner.text.tokenizers import build_tokenizer, is_learned, learn_tokenizer

sentencepiece = pytest.importorskip("sentencepiece")

CAPTIONS = [
    "A man rides a horse.",
    "Two men are riding horses, happily!",
    "一个女孩站在舞台上唱歌，天气很好",
    "فتاة تغني على المسرح",
    "Ein Straßenmusiker – über 3 m groß",
]


def _config(subwords: int = 8000) -> TokenizerConfig:
    return TokenizerConfig("bpe", subwords=subwords)


MODEL = learn_tokenizer(_config(), CAPTIONS).model


@given(st.text(st.characters(exclude_categories=["C"], exclude_characters="▁"), max_size=40))
@settings(max_examples=200, deadline=None)
def test_joining_the_units_gives_the_caption(text: str) -> None:
    """White space apart, which is squeezed: also for characters that were not in the training captions."""
    tokenizer = build_tokenizer(_config(), MODEL)
    assert tokenizer.join(tokenizer.tokenize(text)) == " ".join(text.split())


def _merge_of_the_definition(words: Counter[tuple[str, ...]]) -> tuple[Counter[tuple[str, ...]], str]:
    """One step of Sennrich et al., algorithm 1: merge the most frequent pair of adjacent units, inside words."""
    pairs: Counter[tuple[str, str]] = Counter()
    for word, count in words.items():
        for pair in pairwise(word):
            pairs[pair] += count
    (best, most), (_, second) = pairs.most_common(2)
    assert most > second, "the order of equally frequent pairs is not defined"
    merged: Counter[tuple[str, ...]] = Counter()
    for word, count in words.items():
        units: list[str] = []
        for unit in word:
            if units and (units[-1], unit) == best:
                units[-1] += unit
            else:
                units.append(unit)
        merged[tuple(units)] += count
    return merged, "".join(best)


def test_the_first_merges_are_those_of_the_paper() -> None:
    rng = random.Random(2)
    captions = [word for _ in range(60) for word in ["".join(rng.choices("abcde", k=4))] * rng.randint(1, 999)]
    words: Counter[tuple[str, ...]] = Counter(tuple("▁" + caption) for caption in captions)
    expected = []
    for _ in range(12):
        words, unit = _merge_of_the_definition(words)
        expected.append(unit)
    processor = sentencepiece.SentencePieceProcessor(model_proto=BPE.learn(captions, _config()))
    assert [processor.id_to_piece(number) for number in range(1, 13)] == expected


def test_learning_is_deterministic_and_the_version_names_the_model() -> None:
    first, again = (learn_tokenizer(_config(), CAPTIONS) for _ in range(2))
    other = learn_tokenizer(_config(), CAPTIONS[:2])
    assert first.model == again.model
    assert first.version == again.version != other.version
    assert build_tokenizer(_config(), first.model).tokenize_all(CAPTIONS) == first.tokenize_all(CAPTIONS)
    assert pickle.loads(pickle.dumps(first)).tokenize_all(CAPTIONS) == first.tokenize_all(CAPTIONS)


def test_fewer_units_give_longer_captions() -> None:
    captions = ["the small dog runs over the green grass", "the big dog sleeps in the green grass"] * 5
    short, long = (learn_tokenizer(_config(size), captions).tokenize(captions[0]) for size in (90, 25))
    assert len(short) < len(long) < len(captions[0])
    sizes = {len({unit for units in learn_tokenizer(_config(25), captions).tokenize_all(captions) for unit in units})}
    assert max(sizes) <= 25


def test_messages() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.subwords=5 is too small: the training captions have 12 differ"):
        learn_tokenizer(_config(5), ["a dog runs", "a cat runs"])
    with pytest.raises(DataError, match="learned from the training captions, and there is none"):
        learn_tokenizer(_config(), ["", "  "])
    with pytest.raises(ConfigError, match="stored in the checkpoint, so it cannot be used without one"):
        build_tokenizer(_config())
    with pytest.raises(CheckpointError, match="is damaged"):
        build_tokenizer(_config(), b"no model")
    with pytest.raises(ConfigError, match=r"tokenizer\.subwords=99 has no effect: tokenizer\.name=char"):
        TokenizerConfig("char", subwords=99)
    assert [is_learned(TokenizerConfig(name)) for name in ("ptb", "char", "bpe")] == [False, False, True]


def test_without_the_package_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    importlib.import_module("captioner.text.bpe")  # needs no package
    with pytest.raises(ConfigError, match=r"pip install 'captioner\[bpe\]'"):
        learn_tokenizer(_config(), CAPTIONS)
