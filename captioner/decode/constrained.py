"""Constrained beam search: captions that have certain words or phrases, and lack others (Anderson et al. 2017).

A finite-state machine reads a caption: its state says which requirements are met, and how much of a required phrase
has just been read. Every state has a beam of its own, of `beam_width` hypotheses, so that one which has a required word
does not compete with more probable ones that lack it (section 3.2). Only where all is met may it end; one that ends
keeps its place, as in `captioner.decode.beam_search`, so that without constraints both searches find the same.

The machine reads a caption as it is printed: "a" and "an" take the form that the next word needs
(`captioner.text.articles`), so an article counts when the word after it, or <END>, has been read. Where tokens are
parts of words, excluded words are looked for in the printed text, and count when they can grow no more.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from captioner.config import DecodeConfig
from captioner.decode.beam_search import DecoderRows, best_possible_score, check_n_best, penalty, preferred_tokens
from captioner.decode.forbidden_tokens import MASKED
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis, check_not_nan
from captioner.decode.repetition import repetition_gain, tokens_to_rank
from captioner.errors import ConfigError
from captioner.text.articles import Articles
from captioner.text.occurrences import has_words
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens
from captioner.text.word_preferences import NO_PREFERENCES, WordPreferences

Phrase = tuple[int, ...]
State = tuple[int, Phrase]
"""(bit r is set where requirement r is met, the longest part of a required phrase that the caption ends with)"""
START: State = (0, ())


@dataclass(frozen=True)
class Constraints:
    """What a printed caption must have and must not have, in token ids.

    required: of each requirement the phrases of which one must occur, as adjacent tokens. excluded: phrases that must
    not occur. articles: how "a" and "an" are printed; None: as they were generated. excluded_words: words that the
    printed text must not have, where tokens are parts of words; text_of: tokens → printed text. ConfigError for a
    requirement without a phrase, an empty phrase and more than ten requirements.
    """

    required: tuple[tuple[Phrase, ...], ...] = ()
    excluded: tuple[Phrase, ...] = ()
    articles: Articles | None = field(default=None, repr=False)
    excluded_words: tuple[str, ...] = ()
    text_of: Callable[[Sequence[int]], str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if len(self.required) > 10:
            raise ConfigError(f"{len(self.required)} requirements: expected at most 10, each doubles the search.")
        if not all(self.required) or not all(map(all, self.required)) or not all(self.excluded):
            raise ConfigError("A requirement needs a phrase, and a phrase needs a word.")

    @cached_property
    def tokens(self) -> frozenset[int]:
        """The tokens of all phrases, and both articles where there is one; the others change no requirement."""
        phrases = (*(phrase for one in self.required for phrase in one), *self.excluded)
        tokens = frozenset(token for phrase in phrases for token in phrase)
        forms = frozenset() if self.articles is None else frozenset((self.articles.a, self.articles.an))
        return tokens | forms if tokens & forms else tokens

    @cached_property
    def _articles(self) -> Articles | None:
        """None where no phrase has an article, too."""
        return self.articles if self.articles is not None and self.articles.a in self.tokens else None

    def kind(self, token: int) -> int:
        """All tokens of one kind that are in no phrase lead to the same state."""
        if self._articles is None or token in self._articles.after_either:
            return 0
        return 1 + (token in self._articles.after_an)

    @property
    def kinds(self) -> int:
        """How many kinds there are."""
        return 1 if self._articles is None else 3

    @property
    def end_state(self) -> State:
        """The one in which all is met."""
        return (1 << len(self.required)) - 1, ()

    def next_state(self, state: State, tokens: Phrase, ended: bool = False) -> State:
        """The state after `tokens`, whose last one was read in `state`. ended: after <END>, which was read in it."""
        met = state[0]
        for text in self._new_texts(tokens, ended):
            for number, phrases in enumerate(self.required):
                if any(text[-len(phrase) :] == phrase for phrase in phrases):
                    met |= 1 << number
        open_phrases = [
            phrase for number, phrases in enumerate(self.required) if not met >> number & 1 for phrase in phrases
        ]
        parts = {
            self._any_article(phrase[:length])
            for phrase in open_phrases
            for length in range(1, len(phrase) + self._is_article(phrase[-1]))
        }
        text = self._any_article(self._printed(tokens))
        return met, max((part for part in parts if text[-len(part) :] == part), key=len, default=())

    def excludes(self, tokens: Phrase, ended: bool = False) -> bool:
        """Whether the last token completes an excluded phrase. ended: whether <END> after it does."""
        texts = self._new_texts(tokens, ended)
        return any(text[-len(phrase) :] == phrase for text in texts for phrase in self.excluded)

    def excludes_words(self, tokens: Phrase, ended: bool = False) -> bool:
        """Whether the printed text of the tokens has excluded words. ended: whether <END> follows; see `has_words`."""
        if not self.excluded_words or self.text_of is None:
            return False
        text = self.text_of(tokens)
        return any(has_words(text, words, ended=ended) for words in self.excluded_words)

    def unmet(self, state: State, tokens: Phrase) -> int:
        """How many requirements a caption of these tokens lacks; an excluded phrase at its end is more than all.

        state: the one after the last token.
        """
        met = self.next_state(state, tokens, ended=True)[0].bit_count()
        excluded = self.excludes(tokens, ended=True) or self.excludes_words(tokens, ended=True)
        return len(self.required) - met + (len(self.required) + 1) * excluded

    def _new_texts(self, tokens: Phrase, ended: bool) -> list[Phrase]:
        """The printed beginnings of the caption whose last word the last token, or <END> after it, has decided."""
        text = self._printed(tokens)
        if ended:
            return [text] if tokens and self._is_article(tokens[-1]) else []
        before = [text[:-1]] if len(tokens) > 1 and self._is_article(tokens[-2]) else []
        return before if self._is_article(tokens[-1]) else [*before, text]

    def _printed(self, tokens: Phrase) -> Phrase:
        return tokens if self._articles is None else tuple(self._articles.agree(tokens))

    def _is_article(self, token: int) -> bool:
        return self._articles is not None and token in (self._articles.a, self._articles.an)

    def _any_article(self, tokens: Phrase) -> Phrase:
        """`tokens`, an article at their end as "a": which form it takes is not known yet."""
        if self._articles is None or not tokens or not self._is_article(tokens[-1]):
            return tokens
        return (*tokens[:-1], self._articles.a)


def check_constraints(config: DecodeConfig, constraints: object) -> None:
    """ConfigError for a search that knows no constraints."""
    if constraints is not None and config.name != "beam":
        raise ConfigError(
            f"must_have and must_not need decode='beam', but this is {config.name!r}: only beam search has places for "
            "hypotheses that have other words of the required ones (docs/decoding.md)."
        )


def constrained_beam_search(
    rows: DecoderRows,
    constraints: Sequence[Constraints],
    config: DecodeConfig,
    special: SpecialTokens,
    n_best: int = 1,
    phrases: PhraseStatistics | None = None,
    preferences: Sequence[WordPreferences] | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of every image that meet its constraints, at most `beam_width`, best first.

    rows: of a new search, one per image. phrases, preferences: as of `beam_search`. Where no caption could be finished
    within `max_length` words, one hypothesis that is unfinished and meets the most. ConfigError for n_best < 1.
    """
    check_n_best(n_best)
    wanted = preferences or [NO_PREFERENCES] * len(constraints)
    beams = [_Beams(image, *of_image) for image, of_image in enumerate(zip(constraints, wanted, strict=True))]
    active, width = beams, 1
    hypotheses = [PartialHypothesis() for _ in active]
    tokens, attention = [special.start] * len(active), list[Any]()
    while active:
        attention.append(rows.step(tokens))
        of_rows = None if preferences is None else [one.preferences for one in active for _ in range(width)]
        best_tokens, log_probs = preferred_tokens(rows, hypotheses, sys.maxsize, of_rows)  # all of them
        for position, of_image in enumerate(active):
            of_image.advance(position * width, best_tokens, log_probs, config, special.end, phrases)
        remaining = [place for place, of_image in enumerate(active) if not of_image.is_settled(n_best, config)]
        if not remaining:
            break
        all_remain = len(remaining) == len(active)
        active = [active[place] for place in remaining]
        width = max(len(of_image.open) for of_image in active)
        hypotheses = [(one.hypotheses + one.hypotheses[:1] * width)[i] for one in active for i in range(width)]
        tokens = [hypothesis.tokens[-1] for hypothesis in hypotheses]
        rows.select([hypothesis.rows[-1] for hypothesis in hypotheses], None if all_remain else remaining)
    length_penalty = config.length_penalty
    return [
        [one.complete(attention, length_penalty, rows.stack, unmet) for one, unmet in of_image.ranked(length_penalty)][
            :n_best
        ]
        for of_image in beams
    ]


@dataclass
class _Beams:
    """The hypotheses of one image: those of all states in one list."""

    image: int
    constraints: Constraints
    preferences: WordPreferences
    open: list[tuple[State, PartialHypothesis]] = field(default_factory=lambda: [(START, PartialHypothesis())])
    finished: list[PartialHypothesis] = field(default_factory=list)
    at_end: bool = False

    @property
    def hypotheses(self) -> list[PartialHypothesis]:
        return [hypothesis for _, hypothesis in self.open]

    def advance(
        self,
        first: int,
        tokens: list[list[int]],
        log_probs: list[list[float]],
        config: DecodeConfig,
        end: int,
        phrases: PhraseStatistics | None,
    ) -> None:
        """Extend every open hypothesis by every token; the best extensions take the free places of each state."""
        by_state: dict[State, list[PartialHypothesis]] = defaultdict(list)
        for row, (state, hypothesis) in enumerate(self.open, start=first):
            ranked = zip(tokens[row], log_probs[row], strict=True)
            for after, extended in self._extensions(row, state, hypothesis, ranked, config, end):
                by_state[after].append(extended)
        if not by_state:  # no token may follow: the hypotheses stay as they are, unfinished
            self.at_end = True
            return
        self.open, found = [], len(self.finished)
        for state, candidates in by_state.items():
            places = config.beam_width - (found if state == self.constraints.end_state else 0)
            for one in sorted(candidates, key=lambda one: -one.value)[:places]:
                if one.finished:
                    self.finished.append(one._replace(penalty=penalty(one.tokens, config, phrases)))
                else:
                    self.open.append((state, one))

    def _extensions(
        self,
        row: int,
        state: State,
        hypothesis: PartialHypothesis,
        ranked: Iterable[tuple[int, float]],
        config: DecodeConfig,
        end: int,
    ) -> Iterator[tuple[State, PartialHypothesis]]:
        """The hypothesis in this row, finished and with one more token, with the state after each.

        ranked: all tokens and their log-probabilities, with gains, the most probable first. Of the tokens that are in
        no phrase come only the best of each kind, for they lead to one state.
        """
        gains, others = self.preferences.next_gains(hypothesis.tokens), Counter[int]()
        enough = tokens_to_rank(config, config.beam_width, len(hypothesis.tokens))
        longest = full = len(hypothesis.tokens) == config.max_length
        of_phrases = self.constraints.tokens
        for token, log_prob in ranked:
            kind = None
            if token not in of_phrases and token != end:
                kind = None if full else self.constraints.kind(token)
                if kind is None or others[kind] == enough:
                    continue
            check_not_nan(log_prob, self.image, len(hypothesis.tokens))
            if log_prob == MASKED:
                return  # those that follow are masked, too
            if token != end and not longest and self.constraints.excludes_words((*hypothesis.tokens, token)):
                continue
            if kind is not None:
                others[kind] += 1
                full = others.total() == enough * self.constraints.kinds
            if token == end:
                if not self.constraints.unmet(state, hypothesis.tokens):
                    yield self.constraints.end_state, hypothesis.end(log_prob)
            elif not longest and not self.constraints.excludes(read := (*hypothesis.tokens, token)):
                gain = gains.get(token, 0.0)
                repetition = repetition_gain(token, log_prob - gain, hypothesis.tokens, config)
                after = self.constraints.next_state(state, read)
                yield after, hypothesis.append(token, log_prob - gain, row, gain, repetition)

    def is_settled(self, n_best: int, config: DecodeConfig) -> bool:
        """Whether no open hypothesis can still become one of the `n_best`: see `beam_search`."""
        if self.at_end or not self.open or len(self.finished) == config.beam_width:
            return True
        if len(self.finished) < n_best:
            return False
        best = sorted((one.score(config.length_penalty) for one in self.finished), reverse=True)
        return best[n_best - 1] >= best_possible_score(self.hypotheses, self.preferences, config)

    def ranked(self, length_penalty: float) -> list[tuple[PartialHypothesis, int]]:
        """The finished hypotheses by score; without any, the unfinished one that lacks the least, and how much."""
        if self.finished:
            return [(one, 0) for one in sorted(self.finished, key=lambda one: -one.score(length_penalty))]
        unmet = [(one, self.constraints.unmet(state, one.tokens)) for state, one in self.open]
        return sorted(unmet, key=lambda one: (one[1], -one[0].score(length_penalty)))[:1]
