"""Words as the jar prints them in its alignments."""

from __future__ import annotations

import pytest

from captioner.metrics.meteor.normalizer import normalize

ABBREVIATIONS = {"Mr": False, "St": False, "No": True}


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a dog runs", "a dog runs"),
        ("A Dog", "a dog"),
        ("don't", "don 't"),
        ("do n't", "do n 't"),
        ("it 's", "it ' s"),
        ("dogs' house", "dogs ' house"),
        ("a'b'c", "a 'b'c"),
        ("3's", "3 's"),
        ("t-shirt", "t shirt"),
        ("a-a-a", "a a-a"),
        ("a - b", "a - b"),
        ("a---b", "a--b"),
        ("..-a", ".. -a"),
        ("1,000", "1,000"),
        ("a,b", "a , b"),
        (",a,", ", a,"),
        ("3:00", "3 : 00"),
        ("U.S. is", "us is"),
        ("i.e. x", "ie x"),
        ("ph.d.", "phd"),
        ("Mr. Smith", "mr. smith"),
        ("dr. Who", "dr . who"),
        ("dr. who", "dr. who"),
        ("No. 5", "no. 5"),
        ("No. Five", "no . five"),
        ("end.", "end ."),
        ("wait...", "wait ..."),
        ("“hi”", '" hi "'),
        ("a–b", "a - b"),
        ("café ½ 日本", "café ½ 日 本"),
        ("&amp;", "& amp ;"),
        ("", ""),
    ],
)
def test_words(caption: str, words: str) -> None:
    assert normalize(caption, ABBREVIATIONS) == words.split()
