"""The three tokenizers through their common interface."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import TOKENIZERS, TokenizerConfig
from captioner.errors import ConfigError
from captioner.text import build_tokenizer, ptb_tokenize
from captioner.text.tokenizers import Tokenizer, learn_tokenizer

CAPTION = "A dog isn't\n riding  Mr. Li's horse. "


def _tokenizer(name: str) -> Tokenizer:
    """The tokenizer; one that is learned is learned from CAPTION."""
    if name == "bpe":
        pytest.importorskip("sentencepiece")
    return learn_tokenizer(TokenizerConfig(name), [CAPTION])


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("ptb", ["a", "dog", "is", "n't", "riding", "mr.", "li", "'s", "horse"]),
        ("whitespace", ["A", "dog", "isn't", "riding", "Mr.", "Li's", "horse."]),
        ("char", list("A dog isn't riding Mr. Li's horse.")),
    ],
)
def test_tokens(name: str, tokens: list[str]) -> None:
    tokenizer = build_tokenizer(TokenizerConfig(name))
    assert tokenizer.name == name
    assert tokenizer.version
    assert tokenizer.tokenize(CAPTION) == tokens
    assert tokenizer.tokenize_all([CAPTION, "", CAPTION]) == [tokens, [], tokens]
    assert tokenizer.tokenize_all([]) == []


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("caption", ["", "Una mujer, un niño y un perro", "一个 人　在 骑马。", "ein Haus\u2028am See"])
def test_any_language(name: str, caption: str) -> None:
    tokenizer = _tokenizer(name)
    tokens = tokenizer.tokenize(caption)
    assert tokenizer.tokenize(tokenizer.join(tokens)) == tokens


@given(st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_white_space_is_all_that_joining_changes(text: str) -> None:
    for name in ("whitespace", "char"):
        tokenizer = build_tokenizer(TokenizerConfig(name))
        assert tokenizer.join(tokenizer.tokenize(text)) == " ".join(text.split())


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_can_be_sent_to_another_process(name: str) -> None:
    tokenizer = _tokenizer(name)
    assert pickle.loads(pickle.dumps(tokenizer)).tokenize(CAPTION) == tokenizer.tokenize(CAPTION)


def test_java_is_for_ptb_only() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.name=char"):
        TokenizerConfig("char", backend="java")


def test_the_backend_shows_in_the_version() -> None:
    python = build_tokenizer(TokenizerConfig("ptb"))
    assert python.tokenize("hi") == ptb_tokenize("hi")
    assert not python.version.startswith("corenlp")
