"""The PTB tokenizer against the official one: a table of its answers, real captions, mutated captions.

`ptb_cases.json` holds what Java answered (see `ptb_cases.py`), so most of this runs without Java.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from captioner.text import ptb
from captioner.text.ptb import (
    _NEXT_CAPTION,
    LINE_BREAKS,
    PUNCTUATION,
    _next_token,
    _tokens,
    ptb_tokenize,
    ptb_tokenize_all,
)
from captioner.text.ptb_characters import character_kinds
from captioner.text.ptb_rules import RULES
from tests.text.conftest import TokenizeAll
from tests.text.ptb_cases import CASES, EXPECTED

OFFICIAL: dict[str, list[str]] = json.loads(EXPECTED.read_text(encoding="utf-8"))
PIECES = sorted({piece for case in CASES for piece in case.split() if "[^" not in piece})
"""Difficult text in small pieces, without the face that differs when it contains a space."""

# Text of difficult pieces, with or without spaces, in any order.
hard_text = st.lists(
    st.one_of(st.sampled_from(PIECES), st.sampled_from(["dog", "The", "A", "5", " ", "\t", "\n", ".", "'", "é"])),
    max_size=8,
).flatmap(lambda pieces: st.sampled_from(["", " "]).map(lambda glue: glue.join(pieces)))


def test_the_table_is_complete() -> None:
    assert list(OFFICIAL) == CASES


@pytest.mark.parametrize("caption", OFFICIAL)
def test_equals_what_java_answered(caption: str) -> None:
    assert ptb_tokenize(caption) == OFFICIAL[caption]


def test_java_still_answers_so(java: TokenizeAll) -> None:
    assert dict(zip(CASES, java(CASES), strict=True)) == OFFICIAL


def test_every_rule_decides_somewhere_in_the_table() -> None:
    deciding = set()
    for case in CASES:
        kinds, place = character_kinds(LINE_BREAKS.sub(" ", case)) + _NEXT_CAPTION, 0
        while place < len(kinds) - len(_NEXT_CAPTION):
            rule, place = _next_token(kinds, place)
            deciding.add(rule)
    assert [rule for rule in RULES if rule not in deciding] == []


# ------------------------------------------------------------------------- without an oracle


@given(st.one_of(st.text(max_size=40), hard_text))
@settings(max_examples=300, deadline=None)
def test_tokens_are_words_in_lower_case(text: str) -> None:
    for token in ptb_tokenize(text):
        assert token
        assert " " not in token
        assert token not in PUNCTUATION
        assert token == token.lower()


@given(hard_text)
@example("'Mr. T")
@example("1 \t1/2")
@example("platform K. ")
@example(" \u2003x.net")
@settings(max_examples=500, deadline=None)
def test_splitting_at_spaces_first_changes_nothing(text: str) -> None:
    whole = LINE_BREAKS.sub(" ", text).rstrip(" ")
    assert ptb_tokenize(text) == list(_tokens(whole, _NEXT_CAPTION))


@given(
    captions=st.lists(st.text("aB.1)<> ,\n\u2028\u00a0é'-", max_size=12), max_size=8),
    most=st.sampled_from([1, 3, 2**16]),
)
@settings(max_examples=200, deadline=None)
def test_many_captions_have_the_tokens_of_each(captions: list[str], most: int) -> None:
    expected = [list(_tokens(LINE_BREAKS.sub(" ", caption).rstrip(" "), _NEXT_CAPTION)) for caption in captions]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ptb, "_MOST_PIECES", most)  # pieces are forgotten when there are more
        assert ptb_tokenize_all(captions) == expected
    assert [ptb_tokenize(caption) for caption in captions] == expected


@given(hard_text)
@settings(max_examples=100, deadline=None)
def test_space_around_a_caption_changes_nothing(text: str) -> None:
    assert ptb_tokenize(f"  {text} \n") == ptb_tokenize(text)


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\v", "\f", "\u2028", "\u2029"])
def test_line_breaks_are_space(line_break: str) -> None:
    assert ptb_tokenize(f"a dog{line_break}runs") == ["a", "dog", "runs"]


def test_lone_surrogates_are_dropped() -> None:
    assert ptb_tokenize("a\ud800b \udfff") == ["a", "b"]


@given(st.text("aA1.-'/&@ tn<>=\"", max_size=9))
@settings(max_examples=60, deadline=None)
def test_the_rule_that_matches_the_most_decides(text: str) -> None:
    """By brute force: every rule on every part of the text, so that no pattern stops before its longest match."""
    kinds = character_kinds(text) + _NEXT_CAPTION
    seen = [re.compile(rule.token + rule.lookahead, re.DOTALL) for rule in RULES]
    place = 0
    while place < len(text):
        lengths = [
            max(
                (end for end in range(place + 1, len(kinds) + 1) if pattern.fullmatch(kinds, place, end)), default=place
            )
            for pattern in seen
        ]
        rule, place = _next_token(kinds, place)
        assert rule is RULES[lengths.index(max(lengths))]


# ------------------------------------------------------------------------- against Java


def coco_captions(real_data: Path) -> list[str]:
    annotations = json.loads((real_data / "coco_text" / "captions_val2017.json").read_text(encoding="utf-8"))
    return [annotation["caption"] for annotation in annotations["annotations"]]


def flickr_captions(real_data: Path) -> list[str]:
    lines = (real_data / "flickr8k" / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("\t", 1)[1] for line in lines]


def mutated_captions(count: int, seed: int) -> list[str]:
    """Captions with inserted pieces and characters that are difficult to tokenize."""
    chance = random.Random(seed)
    words = ["a", "man", "in", "the", "street", "dogs", "Two", "people", "AND", "frisbee", "near", "water", "on", "it"]
    characters = (
        ".,'\"-/\\()[]{}<>:;!?@#$%^&*_+=|~` 0123456789aAnNtTsSéЖא中한ＡІ١०²₃½⅓‘’“”„«»–—‐…°×±£€¥¢§©★♥\u0301\u00ad\u200b"
    )
    characters += "\ufeff\xa0\u2003\u3000\x85\x92\x93\x96\x01\x1b\x7f\u2044、。！？😀👍🏽𝐀\r\n\t\v\f\u2028\u2029"
    captions = []
    for _ in range(count):
        caption = [chance.choice(words) for _ in range(chance.randint(1, 10))]
        for _ in range(chance.randint(0, 3)):
            at = chance.randrange(len(caption))
            piece = chance.choice(PIECES)
            caption[at] = chance.choice([piece, caption[at] + piece, piece + caption[at], f"{caption[at]} {piece}"])
        text = " ".join(caption)
        for _ in range(chance.randint(0, 4)):
            at = chance.randint(0, len(text))
            text = text[:at] + chance.choice(characters) + text[at:]
        captions.append(text)
    return captions


def assert_equal_tokens(captions: list[str], java: TokenizeAll) -> None:
    different = {
        caption: {"java": theirs, "ours": ours}
        for caption, theirs, ours in zip(captions, java(captions), map(ptb_tokenize, captions), strict=True)
        if theirs != ours
    }
    assert different == {}


def test_equal_on_coco_captions(real_data: Path, java: TokenizeAll) -> None:
    assert_equal_tokens(coco_captions(real_data)[::12], java)


def test_equal_on_mutated_captions(java: TokenizeAll) -> None:
    assert_equal_tokens(mutated_captions(2000, seed=1), java)


@pytest.mark.slow
def test_equal_on_all_real_captions(real_data: Path, java: TokenizeAll) -> None:
    assert_equal_tokens(coco_captions(real_data) + flickr_captions(real_data), java)


@pytest.mark.slow
def test_equal_on_many_mutated_captions(java: TokenizeAll) -> None:
    assert_equal_tokens(mutated_captions(40_000, seed=2), java)


def test_tokenizing_twice_changes_nothing(real_data: Path) -> None:
    """Except a last letter with its full stop: before a quotation mark it is an initial, at the end it is not."""
    for caption in coco_captions(real_data)[::5] + flickr_captions(real_data)[::5]:
        tokens = ptb_tokenize(caption)
        if tokens and not (len(tokens[-1]) == 2 and tokens[-1].endswith(".")):
            assert ptb_tokenize(" ".join(tokens)) == tokens
