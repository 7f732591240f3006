"""The vocabulary: its words, their ids, and its file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import VocabularyConfig
from captioner.data.batches import TokenizedCaptions
from captioner.errors import CheckpointError, DataError
from captioner.text.vocabulary import SPECIAL_NAMES, SPECIAL_TOKENS, Vocabulary

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3)
CAPTIONS = st.lists(st.lists(WORDS, max_size=6), max_size=12)


def test_special_tokens_come_first_and_have_their_ids() -> None:
    vocabulary = Vocabulary(["a", "dog"])
    assert vocabulary.tokens == ("<PAD>", "<START>", "<END>", "<UNK>", "a", "dog")
    special = SPECIAL_TOKENS
    numbers = (special.pad, special.start, special.end, special.unknown)
    assert [vocabulary.tokens[number] for number in numbers] == list(SPECIAL_NAMES)


@given(captions=CAPTIONS, min_count=st.integers(1, 3), max_size=st.none() | st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_words_are_the_frequent_ones_most_frequent_first(
    captions: list[list[str]], min_count: int, max_size: int | None
) -> None:
    counts = Counter(word for caption in captions for word in caption if word not in SPECIAL_NAMES)
    often = [word for word in counts if counts[word] >= min_count]
    config = VocabularyConfig(min_count=min_count, max_size=max_size)
    if not often:
        with pytest.raises(DataError, match="the vocabulary would be empty"):
            Vocabulary.from_captions(captions, config)
        return
    words = Vocabulary.from_captions(captions, config).tokens[len(SPECIAL_NAMES) :]
    assert len(words) == min(len(often), max_size or len(often))
    assert list(words) == sorted(words, key=lambda word: (-counts[word], word))
    left_out = set(often) - set(words)
    assert all(counts[word] >= counts[other] for word in words for other in left_out)
    assert Vocabulary.from_captions(reversed(captions), config).tokens[len(SPECIAL_NAMES) :] == words
    tokenized = TokenizedCaptions.from_lists([captions])
    assert tokenized.counts == Counter(word for caption in captions for word in caption)
    assert Vocabulary.from_counts(tokenized.counts, config).tokens[len(SPECIAL_NAMES) :] == words


@given(words=st.sets(WORDS, min_size=1, max_size=8), caption=st.lists(WORDS, max_size=8))
@settings(deadline=None, max_examples=60)
def test_encode_and_decode(words: set[str], caption: list[str]) -> None:
    vocabulary = Vocabulary(sorted(words - set(SPECIAL_NAMES)))
    known = vocabulary.encode(sorted(words))
    assert vocabulary.decode(known) == sorted(words)
    expected = [word if word in words else "<UNK>" for word in caption]
    assert vocabulary.decode(vocabulary.encode(caption)) == expected
    assert all(number >= SPECIAL_TOKENS.unknown for number in vocabulary.encode(caption))


def test_special_names_in_a_caption_are_no_special_tokens() -> None:
    """The text "<END>" in a caption does not end it, and is not a word."""
    vocabulary = Vocabulary.from_captions([["a", "<END>", "<PAD>"]] * 3, VocabularyConfig(min_count=1))
    assert vocabulary.tokens == (*SPECIAL_NAMES, "a")
    assert vocabulary.encode(["a", "<END>", "<START>"]) == [4, SPECIAL_TOKENS.unknown, SPECIAL_TOKENS.unknown]
    assert "a" in vocabulary
    assert "<END>" not in vocabulary


def test_a_repeated_word_is_an_error() -> None:
    with pytest.raises(DataError, match="occur twice: 'dog'"):
        Vocabulary(["dog", "cat", "dog"])
    with pytest.raises(DataError, match="occur twice: '<UNK>'"):
        Vocabulary(["<UNK>"])


def test_too_few_words_says_how_often_the_most_frequent_occurs() -> None:
    with pytest.raises(DataError, match=r"No word occurs 5 times .*the most frequent of 2 words occurs 3 times"):
        Vocabulary.from_captions([["a", "dog"], ["a"], ["a"]], VocabularyConfig(min_count=5))


# ------------------------------------------------------------------------------------------- its file


@given(words=st.sets(WORDS, max_size=8))
@settings(deadline=None, max_examples=40)
def test_nothing_is_lost_in_json(words: set[str]) -> None:
    vocabulary = Vocabulary(sorted(words - set(SPECIAL_NAMES)))
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)


def test_save_and_load(tmp_path: Path) -> None:
    vocabulary = Vocabulary(["a", "chien", "犬", "\u2028", 'quo"te'])
    vocabulary.save(tmp_path / "vocab.json")
    assert Vocabulary.load(tmp_path / "vocab.json") == vocabulary
    assert "犬" in (tmp_path / "vocab.json").read_text(encoding="utf-8")


def test_equal_is_same_tokens_in_same_order() -> None:
    assert Vocabulary(["a", "b"]) != Vocabulary(["b", "a"])
    assert Vocabulary(["a"]) != ("<PAD>", "<START>", "<END>", "<UNK>", "a")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not JSON"),
        (b'["<PAD>", "<ST', "is not JSON"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[" * 100_000, "is not JSON"),
        (b"{}", "a JSON list of strings"),
        (b"null", "a JSON list of strings"),
        (b'["<PAD>", "<START>", "<END>", "<UNK>", 5]', "a JSON list of strings"),
        (b'["a", "dog"]', "should begin with <PAD>, <START>, <END>, <UNK>"),
        (b"[]", "should begin with"),
        (json.dumps([*SPECIAL_NAMES, "a", "a"]).encode(), "lists a token twice"),
        (json.dumps([*SPECIAL_NAMES, "<END>"]).encode(), "lists a token twice"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "vocab.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=problem) as error:
        Vocabulary.load(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        Vocabulary.load(tmp_path / "vocab.json")
