"""Which character stands for which."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.text.ptb import ptb_tokenize
from captioner.text.ptb_characters import DIGIT, LETTER, MARK, SYMBOL, UNKNOWN, stand_ins
from tests.text.conftest import TokenizeAll


@given(st.text(max_size=50))
@settings(max_examples=100, deadline=None)
def test_one_stand_in_for_each_character(text: str) -> None:
    assert len(stand_ins(text)) == len(text)
    assert stand_ins(stand_ins(text)) == stand_ins(text)


@given(st.text(st.characters(max_codepoint=127), max_size=50))
@settings(max_examples=50, deadline=None)
def test_ascii_stands_for_itself(text: str) -> None:
    assert stand_ins(text) == text
    assert stand_ins(f"{text}é")[:-1] == text


def test_letters_and_digits_are_unicodes() -> None:
    """Those of Unicode 3.2, which Python still has; nine Ethiopic digits are no decimal digits any more."""
    category = unicodedata.ucd_3_2_0.category
    plane = [chr(code) for code in range(128, 0x10000)]
    letters = [character for character in plane if category(character).startswith("L")]
    digits = [character for character in plane if category(character) == "Nd"]
    assert [character for character in letters if stand_ins(character) not in (LETTER, character)] == []
    assert [character for character in digits if stand_ins(character) != DIGIT] == [chr(0x1369 + i) for i in range(9)]


def test_kinds() -> None:
    assert stand_ins("ñ中한") == LETTER * 3
    assert stand_ins("\u0308\u0903") == MARK * 2
    assert stand_ins("★→") == SYMBOL * 2
    assert stand_ins("😀𝐀\ue000") == UNKNOWN * 3


@pytest.mark.slow
def test_every_character_of_the_first_plane(java: TokenizeAll) -> None:
    characters = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]
    captions = [f"x{character}y {character}1 5{character}6 {character}" for character in characters]
    different = [
        f"U+{ord(character):04X}: {theirs} {ptb_tokenize(caption)}"
        for character, caption, theirs in zip(characters, captions, java(captions), strict=True)
        if theirs != ptb_tokenize(caption)
    ]
    assert different == []
