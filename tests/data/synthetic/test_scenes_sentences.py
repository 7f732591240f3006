"""Captions of scenes: parsed by a small English parser and compared with the layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import pytest

from captioner.data.synthetic.scenes.compositions import NUMBERS, Composition, reserved_for
from captioner.data.synthetic.scenes.generate_scenes import GeneratedScene, generate_scene
from captioner.data.synthetic.scenes.layout import Appearance, Placement, Scene
from captioner.data.synthetic.scenes.sentences import with_article
from captioner.data.synthetic.scenes.words import NOUNS
from captioner.data.synthetic.scenes.world import COLORS, KINDS
from captioner.text import ptb_tokenize

SPLITS = ("train", "val", "test")

SINGULAR = {name.one: kind for kind, noun in NOUNS.items() for name in noun.names}
PLURAL = {name.several: kind for kind, noun in NOUNS.items() for name in noun.names}
COLOR_OF = {**{color: color for color in COLORS}, "violet": "purple"}
SIZE_OF = {"small": "small", "little": "small", "tiny": "small", "large": "large", "big": "large", "huge": "large"}
TEXTURE_OF = {"striped": "striped", "stripes": "striped", "spotted": "spotted", "spots": "spotted"}
COUNT_OF = {"a": {1}, "an": {1}, "two": {2}, "three": {3}, "four": {4}, "five": {5}, "some": {3}, "several": {4, 5}}
SCENERY = {"grass", "sky", "snow", "night", "field", "street", "beach", "road", "lake", "sea", "room", "town"}


@dataclass(frozen=True)
class Mention:
    """A noun phrase that names an object: where it is in the sentence and what it claims."""

    start: int
    end: int
    kind: str
    plural: bool | None  # None: "fish" may be either
    determiner: str
    colors: frozenset[str]
    sizes: frozenset[str]
    textures: frozenset[str]


def read_mentions(tokens: list[str]) -> list[Mention]:
    found = []
    for place, token in enumerate(tokens):
        kind = SINGULAR.get(token) or PLURAL.get(token)
        if kind is None:
            continue
        start = place
        while start > 0 and (tokens[start - 1] in COLOR_OF or tokens[start - 1] in SIZE_OF | TEXTURE_OF):
            start -= 1
        adjectives = tokens[start:place]
        end = place + 1
        if tokens[end : end + 1] == ["with"] and tokens[end + 1] in TEXTURE_OF:
            adjectives = [*adjectives, tokens[end + 1]]
            end += 2
        if tokens[end : end + 1] in (["is"], ["are"]) and tokens[end + 1] in COLOR_OF:
            adjectives = [*adjectives, tokens[end + 1]]
        found.append(
            Mention(
                start,
                end,
                kind,
                None if token in SINGULAR and token in PLURAL else token in PLURAL,
                tokens[start - 1] if start else "",
                frozenset(COLOR_OF[word] for word in adjectives if word in COLOR_OF),
                frozenset(SIZE_OF[word] for word in adjectives if word in SIZE_OF),
                frozenset(TEXTURE_OF[word] for word in adjectives if word in TEXTURE_OF),
            )
        )
    return found


# Phrase → the compositions it may stand for, "A": the object named first, "B": the one named second.
RELATION_READINGS = {
    "next to": ("A beside B",),
    "beside": ("A beside B",),
    "near": ("A beside B",),
    "left of": ("A beside B",),
    "right of": ("A beside B",),
    "above": ("A above B", "B under A"),
    "over": ("A above B", "B under A"),
    "below": ("B above A",),
    "under": ("B above A", "A under B", "B on A"),
    "beneath": ("B above A", "A under B"),
    "underneath": ("A under B",),
    "on": ("A on B",),
    "in front of": ("A in front of B",),
    "behind": ("B in front of A",),
    "between": ("A between B",),
}


def relation_in(words: list[str]) -> str | None:
    text = f" {' '.join(words)} "
    phrases = [phrase for phrase in RELATION_READINGS if f" {phrase} " in text]
    return max(phrases, key=len) if phrases else None


def readings(phrase: str, first: str, second: str) -> set[Composition]:
    found: set[Composition] = set()
    for reading in RELATION_READINGS[phrase]:
        one, relation, two = reading[0], reading[2:-2], reading[-1]
        kinds = [{"A": first, "B": second}[letter] for letter in (one, two)]
        if relation == "beside":
            kinds.sort()
        found.add((kinds[0], relation, kinds[1]))
    return found


@lru_cache(maxsize=3)
def generated(split: str) -> tuple[GeneratedScene, ...]:
    return tuple(generate_scene(0, split, index) for index in range(500))


def everything() -> list[tuple[str, Scene, list[str]]]:
    return [
        (split, scene, ptb_tokenize(sentence))
        for split in SPLITS
        for _, scene, sentences in generated(split)
        for sentence in sentences
    ]


def look_of(scene: Scene, kind: str) -> tuple[Appearance, tuple[Placement, ...]]:
    if scene.main.kind == kind:
        return scene.main, scene.main_placements
    assert scene.other is not None
    assert scene.other.kind == kind, f"{kind} is not in {scene}"
    return scene.other, scene.other_placements


def test_every_caption_names_an_object_and_is_true() -> None:
    for _, scene, tokens in everything():
        mentions = read_mentions(tokens)
        assert mentions, tokens
        for mention in mentions:
            appearance, placements = look_of(scene, mention.kind)
            assert mention.colors <= {appearance.color}, tokens
            assert mention.sizes <= {appearance.size}, tokens
            assert mention.textures <= {appearance.texture}, tokens
            assert mention.plural in (None, len(placements) > 1), tokens
            if mention.determiner in COUNT_OF:
                assert len(placements) in COUNT_OF[mention.determiner], tokens
            if tokens[mention.start - 3 : mention.start - 1] == ["a", "pair"]:
                assert len(placements) == 2, tokens


def test_every_color_belongs_to_an_object_or_to_the_surroundings() -> None:
    """So the parser misses no statement about a color."""
    for _, scene, tokens in everything():
        mentions = read_mentions(tokens)
        claimed = {place for mention in mentions for place in range(mention.start, mention.end)}
        for place, token in enumerate(tokens):
            if token in COLOR_OF and place not in claimed:
                predicate = tokens[place - 1] in ("is", "are") and COLOR_OF[token] == scene.main.color
                assert predicate or tokens[place + 1] in SCENERY, tokens


def test_relations_match_the_layout() -> None:
    seen: set[str] = set()
    for _, scene, tokens in everything():
        mentions = read_mentions(tokens)
        if len(mentions) < 2:
            continue
        first, second = mentions
        inner, after = relation_in(tokens[first.end : second.start]), relation_in(tokens[second.end :])
        if inner is None and tokens[-1] in ("it", "them"):  # "a tree with a cat next to it"
            first, second, inner = second, first, after
        if inner is None:
            continue
        seen.add(inner)
        allowed = readings(inner, first.kind, second.kind)
        assert allowed & scene.compositions(), tokens
        if inner in ("left of", "right of"):
            here, there = (look_of(scene, mention.kind)[1][0].center for mention in (first, second))
            assert (here < there) == (inner == "left of"), tokens
    assert seen == set(RELATION_READINGS)


def test_no_training_caption_expresses_a_reserved_combination() -> None:
    for _, scene, sentences in generated("train"):
        for sentence in sentences:
            mentions = read_mentions(ptb_tokenize(sentence))
            for mention in mentions:
                assert all(reserved_for((color, mention.kind)) is None for color in mention.colors), sentence
                counted = COUNT_OF.get(mention.determiner, {1}) - {1}
                owners = [reserved_for((NUMBERS[number], mention.kind)) for number in counted]
                assert not owners or None in owners, sentence  # "several" is four or five
            if len(mentions) == 2:
                tokens = ptb_tokenize(sentence)
                phrase = relation_in(tokens[mentions[0].end : mentions[1].start])
                if phrase is not None:
                    shown = readings(phrase, mentions[0].kind, mentions[1].kind) & scene.compositions()
                    assert all(reserved_for(composition) is None for composition in shown), sentence


def test_some_test_captions_express_combinations_that_are_not_in_training() -> None:
    new = 0
    for _, _, sentences in generated("test"):
        mentions = [mention for sentence in sentences for mention in read_mentions(ptb_tokenize(sentence))]
        new += any(reserved_for((color, m.kind)) == "test" for m in mentions for color in m.colors)
    assert new > 100


def test_articles_and_verbs_agree() -> None:
    plural = set(PLURAL) - set(SINGULAR)
    singular = set(SINGULAR) - set(PLURAL)
    does = {act.does for noun in NOUNS.values() for acts in noun.acts.values() for act in acts}
    do = {act.do for noun in NOUNS.values() for acts in noun.acts.values() for act in acts}
    for _, _, tokens in everything():
        for word, following in pairwise(tokens):
            if word in ("a", "an"):
                assert (word == "an") == (following[0] in "aeiou"), tokens
            if word in plural:
                assert following not in {"is", *does}, tokens
            if word in singular:
                assert following not in {"are", *do}, tokens
            assert word != following, tokens
            assert (word, following) not in {("can", "is"), ("can", "are"), ("is", "are"), ("are", "is")}, tokens


@pytest.mark.parametrize("phrase", ["orange cat", "umbrella", "elephant", "apple", "airplane", "image of a cat"])
def test_an_before_a_vowel(phrase: str) -> None:
    assert with_article(phrase) == f"an {phrase}"


def test_a_before_a_consonant() -> None:
    assert with_article("house") == "a house"


def test_five_different_captions() -> None:
    lengths = set()
    for split in SPLITS:
        for _, _, sentences in generated(split):
            assert len({" ".join(ptb_tokenize(sentence)) for sentence in sentences}) == 5
            lengths |= {len(ptb_tokenize(sentence)) for sentence in sentences}
            assert all("{" not in sentence and "  " not in sentence for sentence in sentences)
    assert min(lengths) <= 4
    assert max(lengths) >= 14


def test_captions_describe_different_aspects() -> None:
    """Some leave out the color, the relation or the other object; some begin with the other one."""
    pairs = [scene for scene in generated("train") if scene.scene.other is not None]
    for wanted in (1, 2):
        assert any(len(read_mentions(ptb_tokenize(s))) == wanted for scene in pairs for s in scene.captions)
    named_first = [read_mentions(ptb_tokenize(s))[0].kind == g.scene.main.kind for g in pairs for s in g.captions]
    assert 0.6 < sum(named_first) / len(named_first) < 0.95
    colorless = [not mention.colors for _, _, tokens in everything() for mention in read_mentions(tokens)]
    assert 0.05 < sum(colorless) / len(colorless) < 0.35


@pytest.mark.parametrize("seed", [0, 1])
def test_at_the_default_sizes_every_word_of_val_and_test_occurs_five_times_in_training(seed: int) -> None:
    """Five: the default of `vocabulary.min_count`."""
    counts: dict[str, int] = {}
    for index in range(1600):
        for sentence in generate_scene(seed, "train", index).captions:
            for token in ptb_tokenize(sentence):
                counts[token] = counts.get(token, 0) + 1
    known = {token for token, count in counts.items() if count >= 5}
    assert 150 <= len(known) <= 250
    for split in ("val", "test"):
        for index in range(200):
            for sentence in generate_scene(seed, split, index).captions:
                assert set(ptb_tokenize(sentence)) <= known


def test_every_kind_has_words_for_every_stance_it_can_have() -> None:
    assert set(NOUNS) == set(KINDS)
    for split in SPLITS:
        for _, scene, _ in generated(split):
            assert scene.stance_of(scene.main) in NOUNS[scene.main.kind].acts
