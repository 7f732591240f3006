"""Diverse beam search (Vijayakumar et al. 2018, algorithm 1, with Hamming diversity).

The K = `beam_width` places of an image belong to G = `groups` groups of K/G places, and each group is a beam search of
its own. At every step the groups choose one after the other, and a token costs a group λ = `diversity_penalty` nats for
each time that an earlier group has chosen it at this step (<END> too):

    value(y₁ … y_t) = Σ_t [ln p(y_t | y₁ … y_t₋₁, image) − λ · (number of earlier choices of y_t at step t)]

The value gives the places; the score that ranks the captions in the end is that of `captioner.decode.beam_search`,
without the penalty, as in the paper. One group, or λ = 0 and one place per image and group, is beam search.

Like `captioner.decode.beam_search`, this module needs only `DecoderRows` and imports no torch by itself.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from captioner.config import DecodeConfig
from captioner.decode.beam_search import DecoderRows, penalty
from captioner.decode.forbidden_tokens import MASKED
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis, check_not_nan
from captioner.decode.repetition import repetition_gain, tokens_to_rank
from captioner.errors import ConfigError
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens


def diverse_beam_search(
    decoder_rows: DecoderRows,
    images: int,
    config: DecodeConfig,
    special: SpecialTokens,
    n_best: int = 1,
    phrases: PhraseStatistics | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of every image, of all groups together, best first; unfinished ones come last.

    Two groups may find the same caption, which is then returned once. The search of an image stops as soon as the
    result is certain. ConfigError for n_best < 1.
    """
    if n_best < 1:
        raise ConfigError(f"n_best={n_best}: expected 1 or more hypotheses per image.")
    searches = [_ImageSearch(image, config) for image in range(images)]
    active, width = searches, 1  # the images still being searched, and the number of rows of each
    hypotheses = [PartialHypothesis() for _ in active]  # one per row; the groups share the first
    tokens = [special.start] * len(active)
    attention: list[Any] = []

    while active:
        attention.append(decoder_rows.step(tokens))
        # Earlier groups lower at most beam_width tokens, so the best tokens of a group are among these.
        places = config.beam_width // config.groups
        count = tokens_to_rank(config, places + config.beam_width, len(hypotheses[0].tokens))
        best_tokens, log_probs = decoder_rows.best_tokens(hypotheses, count)
        for position, image_search in enumerate(active):
            image_search.advance(position * width, best_tokens, log_probs, special.end, phrases)
        remaining = [i for i, image_search in enumerate(active) if not image_search.is_settled(n_best)]
        if not remaining:
            break
        all_remain = len(remaining) == len(active)
        active = [active[position] for position in remaining]
        opened = [image_search.open for image_search in active]
        width = max(map(len, opened))
        hypotheses = [one for of_image in opened for one in (of_image + of_image[:1] * width)[:width]]
        tokens = [hypothesis.tokens[-1] for hypothesis in hypotheses]
        decoder_rows.select([hypothesis.rows[-1] for hypothesis in hypotheses], None if all_remain else remaining)

    return [
        [
            hypothesis.complete(attention, config.length_penalty, decoder_rows.stack)
            for hypothesis in image_search.ranked()[:n_best]
        ]
        for image_search in searches
    ]


@dataclass
class _Group:
    """A group of an image: its open hypotheses with their Hamming penalties so far, and the finished ones."""

    open: list[tuple[PartialHypothesis, float]] = field(default_factory=lambda: [(PartialHypothesis(), 0.0)])
    finished: list[PartialHypothesis] = field(default_factory=list)
    at_end: bool = False  # whether the open hypotheses cannot be extended


class _ImageSearch:
    """The groups of one image."""

    def __init__(self, image: int, config: DecodeConfig) -> None:
        self.image, self.config = image, config
        self.groups = [_Group() for _ in range(config.groups)]
        self._shares_first_row = True

    @property
    def open(self) -> list[PartialHypothesis]:
        """The hypotheses that can be extended, group by group: one row each."""
        return [one for group in self.groups if not group.at_end for one, _ in group.open]

    def advance(
        self,
        first: int,
        tokens: list[list[int]],
        log_probs: list[list[float]],
        end: int,
        phrases: PhraseStatistics | None,
    ) -> None:
        """Let each group extend its hypotheses, whose rows begin at `first`, after the groups before it."""
        chosen: Counter[int] = Counter()
        row = first
        for group in self.groups:
            if group.at_end:
                continue
            rows = range(row, row + len(group.open))
            row = first if self._shares_first_row else rows.stop
            chosen.update(self._advance_group(group, rows, tokens, log_probs, chosen, end, phrases))
        self._shares_first_row = False

    def _advance_group(
        self,
        group: _Group,
        rows: range,
        tokens: list[list[int]],
        log_probs: list[list[float]],
        chosen: Counter[int],
        end: int,
        phrases: PhraseStatistics | None,
    ) -> list[int]:
        """The tokens that the group chooses. chosen: how often earlier groups have chosen each token."""
        candidates = []
        for index, (row, (hypothesis, hamming)) in enumerate(zip(rows, group.open, strict=True)):
            for token, log_prob in zip(tokens[row], log_probs[row], strict=True):
                check_not_nan(log_prob, self.image, len(hypothesis.tokens))
                if log_prob > MASKED:
                    gain = repetition_gain(token, log_prob, hypothesis.tokens, self.config)
                    total = hamming - self.config.diversity_penalty * chosen[token]
                    value = hypothesis.value + log_prob + gain + total
                    candidates.append((-value, index, token, log_prob, gain, total))
        candidates.sort()  # among equals the better hypothesis first, then the lower token id
        extended, ended = [], set()
        taken = candidates[: self.config.beam_width // self.config.groups - len(group.finished)]
        for _, index, token, log_prob, gain, total in taken:
            hypothesis = group.open[index][0]
            if token == end:
                group.finished.append(hypothesis.end(log_prob, penalty(hypothesis.tokens, self.config, phrases)))
                ended.add(index)
            else:
                extended.append((hypothesis.append(token, log_prob, rows[index], repetition=gain), total))
        if not candidates or len(group.open[0][0].tokens) == self.config.max_length:
            # No token may follow: the hypotheses that did not end here stay as they are, unfinished.
            group.open = [one for index, one in enumerate(group.open) if index not in ended]
            group.at_end = True
        else:
            group.open = extended
            group.at_end = not extended
        return [token for _, _, token, *_ in taken]

    def is_settled(self, n_best: int) -> bool:
        """Whether the `n_best` are certain, by the bound of `captioner.decode.beam_search` over all groups.

        An open hypothesis of any group can still get any rank that its log-probability allows, and as long as one can,
        all groups continue, because their choices change those of later groups.
        """
        opened = self.open
        if not opened:
            return True
        finished = [one for one in self.ranked() if one.finished]
        if len(finished) < n_best:
            return False
        most = max(one.value for one in opened) / math.pow(self.config.max_length + 1, self.config.length_penalty)
        return finished[n_best - 1].score(self.config.length_penalty) > most

    def ranked(self) -> list[PartialHypothesis]:
        """The finished hypotheses of all groups, then the unfinished, each by decreasing score, without duplicates."""
        finished = [one for group in self.groups for one in group.finished]
        unfinished = [one for group in self.groups for one, _ in group.open]
        found: dict[tuple[tuple[int, ...], bool], PartialHypothesis] = {}
        for one in sorted(
            [*finished, *unfinished], key=lambda one: (not one.finished, -one.score(self.config.length_penalty))
        ):
            found.setdefault((one.tokens, one.finished), one)
        return list(found.values())
