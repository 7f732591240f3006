"""What a search gains by naming something, besides the probability of the words.

An image's class probabilities speak for some words and against others. The gain of a word counts when a caption names
the thing for the first time: naming it again, or by another word of the same thing, gains nothing. So a search weighs
the decoder's evidence against the classifier's, and no word is forced.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import NamedTuple


class Transfer(NamedTuple):
    """A share, above 0 and below 1, of the probability of the tokens `sources` that goes to the token `target`."""

    target: int
    sources: tuple[int, ...]
    share: float


class WordPreferences:
    """The gains of the words for one image.

    gains: token → gain; the others gain nothing. same: token → the tokens that name the same thing, itself among them.
    groups: disjoint sets of tokens, of which any two name the same thing; each token with a gain is in one.
    transfers: probability that moves between words, until a caption names the thing to which it goes.
    """

    def __init__(
        self,
        gains: Mapping[int, float],
        same: Mapping[int, Set[int]],
        groups: Sequence[Set[int]] | None = None,
        transfers: Sequence[Transfer] = (),
    ) -> None:
        self.transfers = tuple(transfers)
        self.gains = {token: gain for token, gain in gains.items() if gain}
        self._same = same
        grouped = [{token} for token in self.gains] if groups is None else groups
        positive = ({token: self.gains[token] for token in group if self.gains.get(token, 0) > 0} for group in grouped)
        self._positive = [group for group in positive if group]

    def without(self, tokens: Set[int]) -> WordPreferences:
        """The same for captions without `tokens`: other words of the same things gain nothing in their place."""
        named = self._named(tokens) | tokens
        if not named:
            return self
        gains = {token: gain for token, gain in self.gains.items() if gain < 0 or token not in named}
        transfers = [one for one in self.transfers if one.target not in named]
        return WordPreferences(gains, self._same, [group.keys() - named for group in self._positive], transfers)

    def next_gains(self, tokens: Sequence[int]) -> Mapping[int, float]:
        """What each token gains after `tokens`; those that are not listed, nothing."""
        named = self._named(tokens)
        return {token: gain for token, gain in self.gains.items() if token not in named} if named else self.gains

    def next_transfers(self, tokens: Sequence[int]) -> Sequence[Transfer]:
        """What moves between the probabilities of the token after `tokens`."""
        if not self.transfers:
            return ()
        named = self._named(tokens)
        return [one for one in self.transfers if one.target not in named]

    def total(self, tokens: Sequence[int]) -> float:
        """The gain of a whole caption."""
        named, total = set[int](), 0.0
        for token in tokens:
            total += 0.0 if token in named else self.gains.get(token, 0.0)
            named |= self._same.get(token, set())
        return total

    def most(self, tokens: Sequence[int]) -> float:
        """An upper bound of what the caption can still gain: the best word of each group."""
        named = self._named(tokens)
        return sum(
            max((gain for token, gain in group.items() if token not in named), default=0.0) for group in self._positive
        )

    def can_do_better(self, tokens: Sequence[int]) -> bool:
        """Whether a caption leaves out something that gains, or has a word that loses."""
        return self.most(tokens) > 0 or any(self.gains.get(token, 0.0) < 0 for token in tokens)

    def bound(self, tokens: Sequence[int]) -> float:
        """An upper bound of the gain of any caption that begins with `tokens`."""
        return self.total(tokens) + self.most(tokens)

    def _named(self, tokens: Collection[int]) -> set[int]:
        """The tokens that name what `tokens` names already."""
        return {other for token in tokens if token in self._same for other in self._same[token]}


NO_PREFERENCES = WordPreferences({}, {})
