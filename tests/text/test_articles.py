"""The article's form by the next word: letters beside words labeled by hand, statistics, and other languages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.checkpoint.checkpoint_settings import load_phrase_vocabulary, read_config
from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.pretrained import DEFAULT, pretrained_folder
from captioner.text.articles import begins_with_vowel
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SPECIAL_TOKENS, Vocabulary

NEED_AN = """
apple atv eagle elephant egg elbow emu escalator ice iguana igloo inch octopus old only onion oven owl ox
umbrella uncle unimportant uninhabited unidentified unusual unhappy up urban urge urn usher utter hour hours
heir honest honorary honour 8 80 8-year-old 11 18
"""
NEED_A = """
dog house horse hotel hand uniform unicycle unicorn unit united unique university use used useful usual using
ukulele utensil utility uranium ufo european ewe eucalyptus one one-handed once yellow year wheel wolf 1 10 12
110 180 7 9 honey
"""


@pytest.mark.parametrize("word", NEED_AN.split())
def test_words_that_need_an(word: str) -> None:
    assert begins_with_vowel(word)


@pytest.mark.parametrize("word", NEED_A.split())
def test_words_that_need_a(word: str) -> None:
    assert not begins_with_vowel(word)


ENGLISH = [
    *(["a", "dog"], ["a", "cat"], ["an", "apple"], ["an", "old", "man"], ["a", "uniform"]) * 80,
    *[["an", "historic", "house"]] * 14,
    *[["a", "historic", "house"]] * 7,
    *[["a", "umbrella"]] * 3,  # mistakes, and too few to decide
    ["the", "owl", "in", ",", "and", "a", ",", "an"],
]


def vocabulary_of(captions: Sequence[Sequence[str]], extra: Sequence[str] = ()) -> Vocabulary:
    """The words of the captions, with their phrase statistics; `extra`: words that were never read."""
    words = sorted({word for caption in captions for word in caption})
    vocabulary = Vocabulary([*words, *extra])
    encoded = [vocabulary.encode(caption) for caption in captions]
    vocabulary.phrases = PhraseStatistics.from_captions(encoded, SPECIAL_TOKENS.end)
    return vocabulary


@pytest.fixture(scope="module")
def english() -> Vocabulary:
    return vocabulary_of(ENGLISH, ["elephant", "zebra", "unicycle"])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a elephant", "an elephant"),
        ("an zebra and a zebra", "a zebra and a zebra"),
        ("an unicycle", "a unicycle"),
        ("a old man in an uniform", "an old man in a uniform"),
        ("a historic house", "an historic house"),
        ("a umbrella", "an umbrella"),
        ("a , an", "a , an"),
        ("an", "an"),
        ("a an apple", "a an apple"),
        ("", ""),
    ],
)
def test_articles_take_the_form_that_the_next_word_needs(english: Vocabulary, written: str, expected: str) -> None:
    words = written.split()
    tokens = english.encode(words)
    found = english.decode_caption(tokens)
    assert found == expected.split()
    assert english.decode(tokens) == words


@given(st.data())
def test_nothing_but_articles_changes_and_twice_is_once(english: Vocabulary, data: st.DataObject) -> None:
    tokens = data.draw(st.lists(st.integers(0, len(english) - 1), max_size=20))
    articles = english.articles
    assert articles is not None
    found = articles.agree(tokens)
    assert len(found) == len(tokens)
    assert articles.agree(found) == found
    forms = {articles.a, articles.an}
    for before, after in zip(tokens, found, strict=True):
        assert before == after or {before, after} == forms
    for article, following in pairwise(found):
        word = english.tokens[following]
        if article in forms and word[0].isalpha() and following not in forms:
            vowel = word == "historic" or (word[0] in "aeiou" and word not in ("uniform", "unicycle"))
            assert english.tokens[article] == ("an" if vowel else "a")


@pytest.mark.parametrize(
    "captions",
    [
        [["il", "a", "été", "un", "an"], ["elle", "a", "un", "an", "de", "plus"], ["l'", "an", "dernier"]] * 40,
        [["a", "dog"], ["a", "orange", "an", "a", "apple"]] * 40,  # "an" stands before no word
        [["an", "apple"]] * 40,
        [["a", "dog"]] * 40 + [["an", "apple"]] * 24,
        [["a", "apple"], ["a", "dog"], ["an", "old", "dog"]] * 40,  # does not tell them apart
    ],
    ids=["French", "no an", "no a", "few", "mixed"],
)
def test_captions_that_do_not_use_the_articles_as_english_does_are_left_alone(captions: list[list[str]]) -> None:
    vocabulary = vocabulary_of(captions)
    assert vocabulary.articles is None
    tokens = list(range(len(vocabulary)))
    assert vocabulary.decode_caption(tokens) == list(vocabulary.tokens)


def test_without_statistics_nothing_is_known() -> None:
    vocabulary = Vocabulary(["a", "an", "elephant"])
    assert vocabulary.articles is None
    assert vocabulary.decode_caption([4, 6]) == ["a", "elephant"]
    vocabulary.phrases = vocabulary_of(ENGLISH).phrases
    assert vocabulary.phrases is not None
    other = vocabulary_of(ENGLISH)
    assert other.articles is not None
    other.phrases = None
    assert other.articles is None


def test_the_bundled_vocabulary() -> None:
    folder = find_checkpoint(pretrained_folder(DEFAULT))
    vocabulary = load_phrase_vocabulary(folder, read_config(folder).manifest)
    phrases = vocabulary.phrases
    assert phrases is not None
    articles = vocabulary.articles
    assert articles is not None
    for text, expected in {
        "a elephant is on a beach": "an elephant is on a beach",
        "a man is riding a atv": "a man is riding an atv",
        "riding a unicycle in a orange uniform": "riding a unicycle in an orange uniform",
        "a owl with a eagle and an zebra in a oven": "an owl with an eagle and a zebra in an oven",
    }.items():
        assert vocabulary.decode_caption(vocabulary.encode(text.split())) == expected.split()
    read = [
        (following, phrases.counts.get((articles.a, following), 0), phrases.counts.get((articles.an, following), 0))
        for following in range(len(vocabulary))
        if following not in articles.after_either
    ]
    for following, with_a, with_an in read:
        if with_a + with_an >= 5 and with_a != with_an:
            assert (following in articles.after_an) == (with_an > with_a), vocabulary.tokens[following]
