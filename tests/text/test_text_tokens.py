"""Characters are exact; words keep every mark and every line break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import ConfigError
from captioner.text.text_tokens import join_tokens, split_text


@given(st.text())
def test_characters_are_the_text(text: str) -> None:
    assert join_tokens(split_text(text, "characters"), "characters") == text


@given(st.text())
def test_words_leave_out_nothing_but_blanks(text: str) -> None:
    tokens = split_text(text, "words")
    assert "".join(tokens) == "".join(c for c in text if c == "\n" or not c.isspace())
    assert split_text(join_tokens(tokens, "words"), "words") == tokens


def test_what_a_word_is() -> None:
    text = 'Nora said: "x_1 = 10;"\nÉté!'
    assert split_text(text, "words") == ["Nora", "said", ":", '"', "x_1", "=", "10", ";", '"', "\n", "Été", "!"]
    assert join_tokens(["a", "\n", "b", "c"], "words") == "a\nb c"


def test_other_levels_are_an_error() -> None:
    with pytest.raises(ConfigError, match="Did you mean words"):
        split_text("a", "word")
