"""METEOR of one pair of captions, word by word: what the search over arrays is compared with."""

from __future__ import annotations

from collections.abc import Callable

from captioner.metrics.meteor.alignment import EXACT, PARAPHRASE, STEM, SYNONYM, Alignment, Match

Modules = Callable[[str, str], list[int]]
"""(a word of the hypothesis, a word of the reference) → the modules that match them."""


def modules_of(same_stem: Callable[[str, str], bool], synonyms: Callable[[str, str], bool]) -> Modules:
    """Equal words match exactly, and in no other way."""

    def modules(hypothesis: str, reference: str) -> list[int]:
        if hypothesis == reference:
            return [EXACT]
        return [STEM] * same_stem(hypothesis, reference) + [SYNONYM] * synonyms(hypothesis, reference)

    return modules


def find_matches(
    hypothesis: list[str], reference: list[str], modules: Modules, table: list[tuple[str, str]]
) -> list[Match]:
    """All candidates: equal words, equal stems, synonyms, then paraphrases. table: (phrase, paraphrase of it)."""
    single: tuple[list[Match], ...] = ([], [], [])
    for start, word in enumerate(reference):
        for hypothesis_start, other in enumerate(hypothesis):
            for module in modules(other, word):
                single[module].append(Match(start, 1, hypothesis_start, 1, module))
    backward = [Match(*one, *other, PARAPHRASE) for one, other in _paraphrases(reference, hypothesis, table)]
    forward = [Match(*other, *one, PARAPHRASE) for one, other in _paraphrases(hypothesis, reference, table)]
    return [*single[EXACT], *single[STEM], *single[SYNONYM], *backward, *forward]


def _paraphrases(
    words: list[str], others: list[str], table: list[tuple[str, str]]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Start and length of each phrase beside those of each of its paraphrases, in the table's order."""

    def spans(words: list[str]) -> list[tuple[int, int]]:
        return [(start, end - start) for start in range(len(words)) for end in range(start + 1, len(words) + 1)]

    def text(words: list[str], span: tuple[int, int]) -> str:
        return " ".join(words[span[0] : sum(span)])

    return [
        (one, other)
        for one in spans(words)
        for phrase, paraphrase in table
        if text(words, one) == phrase
        for other in spans(others)
        if text(others, other) == paraphrase
    ]


def count(hypothesis: list[str], reference: list[str], alignment: Alignment, function_words: set[str]) -> list[int]:
    """The 23 statistics."""
    modules = [0] * 16
    for start, length, hypothesis_start, hypothesis_length, module in alignment.matches:
        for word in hypothesis[hypothesis_start : hypothesis_start + hypothesis_length]:
            modules[4 * module + 2 * (word in function_words)] += 1
        for word in reference[start : start + length]:
            modules[4 * module + 2 * (word in function_words) + 1] += 1
    return [
        len(hypothesis),
        len(reference),
        sum(word in function_words for word in hypothesis),
        sum(word in function_words for word in reference),
        *modules,
        alignment.chunks,
        sum(match.hypothesis_length for match in alignment.matches),
        sum(match.length for match in alignment.matches),
    ]
