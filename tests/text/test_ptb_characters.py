"""The representatives of characters."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.text.ptb import ptb_tokenize
from captioner.text.ptb_characters import DIGIT, LETTER, MARK, SYMBOL, UNKNOWN, character_kinds
from tests.text.conftest import TokenizeAll


@given(st.text(max_size=50))
@settings(max_examples=100, deadline=None)
def test_one_representative_per_character(text: str) -> None:
    assert len(character_kinds(text)) == len(text)
    assert character_kinds(character_kinds(text)) == character_kinds(text)


@given(st.text(st.characters(max_codepoint=127), max_size=50))
@settings(max_examples=50, deadline=None)
def test_ascii_is_kept(text: str) -> None:
    assert character_kinds(text) == text
    assert character_kinds(f"{text}é")[:-1] == text


def test_letters_and_digits_are_unicodes() -> None:
    """Those of Unicode 3.2, which Python contains; nine Ethiopic digits are no longer decimal digits."""
    category = unicodedata.ucd_3_2_0.category
    plane = [chr(code) for code in range(128, 0x10000)]
    letters = [character for character in plane if category(character).startswith("L")]
    digits = [character for character in plane if category(character) == "Nd"]
    assert [character for character in letters if character_kinds(character) not in (LETTER, character)] == []
    assert [character for character in digits if character_kinds(character) != DIGIT] == [
        chr(0x1369 + i) for i in range(9)
    ]


def test_kinds() -> None:
    assert character_kinds("ñ中한") == LETTER * 3
    assert character_kinds("\u0308\u0903") == MARK * 2
    assert character_kinds("★→") == SYMBOL * 2
    assert character_kinds("😀𝐀\ue000") == UNKNOWN * 3


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
