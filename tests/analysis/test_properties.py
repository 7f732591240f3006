"""Each property, on short texts with known values."""

from __future__ import annotations

import pytest

from captioner.analysis.properties import TEXT_PROPERTIES, caption_property, frequent_objects
from captioner.errors import ConfigError

CASES = {
    "quotes": ('a "b" c "', "001100001"),
    "line_position": ("ab\nc\n\nd", "0101001"),  # a, b, break, c, break, break, d
    "brackets": ("a(b[c]{})d)", "01122121000"),
    "indentation": ("\ta b\n  c\td", "1111012222"),
    "comment": ("a/*b*/c/*/d*/", "0011100011110"),
    "word": ("ab, cde\nf", "120012301"),
}


@pytest.mark.parametrize("name", TEXT_PROPERTIES)
def test_text(name: str) -> None:
    text, expected = CASES[name]
    assert "".join(f"{value:.0f}" for value in TEXT_PROPERTIES[name](list(text))) == expected


CAPTIONS = [["a", "dog", "and", "a", "cat"], ["a", "man"]]
REFERENCES = [[["a", "dog"], ["two", "pets"]], [["a", "man", "in", "a", "car"]]]


def test_captions() -> None:
    assert caption_property("position", CAPTIONS, REFERENCES) == [1, 2, 3, 4, 5, 1, 2]
    assert caption_property("word:and", CAPTIONS, REFERENCES) == [0, 0, 1, 0, 0, 0, 0]
    assert caption_property("object:dog", CAPTIONS, REFERENCES) == [1] * 5 + [0] * 2
    assert caption_property("object:car", CAPTIONS, REFERENCES) == [0] * 5 + [1] * 2


def test_objects_in_half_of_the_images_come_first() -> None:
    assert set(frequent_objects(REFERENCES)) == {"dog", "man", "car"}
    assert frequent_objects([]) == []


@pytest.mark.parametrize(("name", "message"), [("object", "lacks a word"), ("objet:dog", "Did you mean object?")])
def test_unknown_properties_are_errors(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        caption_property(name, CAPTIONS, REFERENCES)
