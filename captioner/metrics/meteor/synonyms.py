"""Synonyms as METEOR finds them: words with a WordNet synset in common, directly or by their base form.

The base form of an inflected word is that of the list of irregular forms, or else the first word of the dictionary that
WordNet's rules of detachment lead to (Miller et al. 1990, "Morphy"; here without parts of speech).
"""

from __future__ import annotations

from collections.abc import Mapping

from captioner.metrics.meteor.resources import Resources

_RULES = (
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
    ("es", "e"),
    ("es", ""),
    ("ed", "e"),
    ("ed", ""),
    ("ing", "e"),
    ("ing", ""),
    ("er", ""),
    ("est", ""),
    ("er", "e"),
    ("est", "e"),
)


def synsets_of(word: str, resources: Resources) -> frozenset[str]:
    """The synsets of a word and of its base forms."""
    return _synsets(word, resources.synsets).union(
        *(_synsets(base, resources.synsets) for base in _base_forms(word, resources))
    )


def _synsets(word: str, table: Mapping[str, str]) -> frozenset[str]:
    return frozenset(table.get(word, "").split())


def _base_forms(word: str, resources: Resources) -> tuple[str, ...]:
    if word in resources.exceptions:
        return resources.exceptions[word]
    if len(word) <= 2 or word.endswith("ss"):
        return ()
    bases = (word.removesuffix(suffix) + ending for suffix, ending in _RULES if word.endswith(suffix))
    return tuple([base for base in bases if base in resources.synsets][:1])
