"""Errors of users are one kind of exception; wrong names are answered with near misses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner import errors
from captioner.errors import CaptionerError, ConfigError, DataError, ImageError, choose, near_misses


def test_all_are_captioner_errors() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {CaptionerError, ConfigError, ImageError} < set(kinds), "not all of them have been found"
    assert [kind.__name__ for kind in kinds if not issubclass(kind, CaptionerError)] == []
    assert issubclass(ImageError, DataError)


def test_near_misses() -> None:
    assert near_misses("lstn", ["rnn", "lstm", "gru"]) == " Did you mean lstm?"
    assert near_misses("hidden_dims", ["hidden_dim", "hidden_din", "layers"]) == " Did you mean hidden_dim, hidden_din?"
    assert near_misses("cider", ["Bleu_4", "CIDEr"]) == " Did you mean CIDEr?"
    assert near_misses("zebra", ["rnn", "lstm", "gru"]) == ""
    assert near_misses("a", []) == ""
    assert near_misses("aaaa1", ["aaaa2", "aaaa3", "aaaa4", "aaaa5"], most=2).count("aaaa") == 2


def test_choose_lists_all_options_in_order() -> None:
    assert choose("model.cell", "gru", ("rnn", "lstm", "gru")) == "gru"
    with pytest.raises(ConfigError) as error:
        choose("model.cell", "gro", ("rnn", "lstm", "gru"))
    assert str(error.value) == "model.cell='gro' does not exist. Did you mean gru? Choose one of: gru, lstm, rnn."


@given(name=st.text(max_size=6), valid=st.sets(st.text(max_size=6), max_size=4))
def test_choose_takes_what_is_valid_and_nothing_else(name: str, valid: set[str]) -> None:
    if name in valid:
        assert choose("kind", name, valid) == name
    else:
        with pytest.raises(ConfigError):
            choose("kind", name, valid)
