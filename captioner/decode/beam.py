"""Beam search with torch: `captioner.decode.beam_search` over the rows of a decoder, on its device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.constrained import Constraints
from captioner.decode.constraints import mask_forbidden_tokens
from captioner.decode.diverse_beam_search import diverse_beam_search
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis
from captioner.decode.preferred_beam import preferred_beam_search
from captioner.decode.scores import at_least_float32, top_tokens
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.linear import forget_changed_copies
from captioner.nn.types import ImageFeatures, select_images, select_rows
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens
from captioner.text.word_preferences import Transfer, WordPreferences


@torch.inference_mode()
def beam(
    decoder: Decoder[Any],
    features: ImageFeatures,
    config: DecodeConfig,
    special: SpecialTokens,
    n_best: int = 1,
    phrases: PhraseStatistics | None = None,
    preferences: Sequence[WordPreferences] | None = None,
    constraints: Sequence[Constraints] | None = None,
) -> list[list[Hypothesis]]:
    """The hypotheses of every image, as `preferred_beam_search` returns them. ConfigError for n_best < 1."""

    def new_rows(chosen: Sequence[int] | None) -> TorchRows:
        given = features
        if chosen is not None:
            places = torch.tensor(chosen, device=features.vector.device)
            given = features.images(lambda part: part.index_select(0, places))
        return TorchRows(decoder, given, config, special, phrases)

    images = len(features.vector)
    return preferred_beam_search(new_rows, images, config, special, n_best, phrases, preferences, constraints)


@torch.inference_mode()
def diverse_beam(
    decoder: Decoder[Any],
    features: ImageFeatures,
    config: DecodeConfig,
    special: SpecialTokens,
    n_best: int = 1,
    phrases: PhraseStatistics | None = None,
) -> list[list[Hypothesis]]:
    """The hypotheses of every image, as `diverse_beam_search` returns them. ConfigError for n_best < 1."""
    rows = TorchRows(decoder, features, config, special, phrases)
    return diverse_beam_search(rows, features.vector.shape[0], config, special, n_best, phrases)


class TorchRows:
    """See `captioner.decode.beam_search.DecoderRows`."""

    def __init__(
        self,
        decoder: Decoder[Any],
        features: ImageFeatures,
        config: DecodeConfig,
        special: SpecialTokens,
        phrases: PhraseStatistics | None,
    ) -> None:
        forget_changed_copies(decoder)
        self._decoder, self._device = decoder, features.vector.device
        self._config, self._special, self._phrases = config, special, phrases
        self._state = decoder.init_state(features)
        self._logits: Tensor | None = None

    def step(self, tokens: Sequence[int]) -> Any:
        logits, self._state, weights = self._decoder.step(self._to_tensor(tokens), self._state)
        self._logits = at_least_float32(logits)
        return weights

    def move_probability(self, transfers: Sequence[Sequence[Transfer]]) -> None:
        assert self._logits is not None, "step comes first"
        for logits, of_row in zip(self._logits, transfers, strict=True):
            for target, sources, share in of_row:
                tokens = self._to_tensor(sources)
                moved = logits[tokens].logsumexp(dim=0) + math.log(share)
                logits[target] = torch.logaddexp(logits[target], moved)
                logits[tokens] += math.log1p(-share)

    def best_tokens(
        self, hypotheses: Sequence[PartialHypothesis], count: int, gains: Sequence[Mapping[int, float]] | None = None
    ) -> tuple[list[list[int]], list[list[float]]]:
        assert self._logits is not None, "step comes first"
        total = self._logits.logsumexp(dim=1, keepdim=True)  # the model's own normalizer, before tokens are masked
        mask_forbidden_tokens(self._logits, hypotheses, self._config, self._special, self._phrases)
        rows = [row for row, of_row in enumerate(gains or ()) for _ in of_row]
        if gains is not None and rows:
            tokens = self._to_tensor([token for of_row in gains for token in of_row])
            added = [gain for of_row in gains for gain in of_row.values()]
            self._logits[self._to_tensor(rows), tokens] += self._logits.new_tensor(added)
        values, best = top_tokens(self._logits, count)
        return best.tolist(), (values - total).tolist()

    def select(self, rows: Sequence[int], images: Sequence[int] | None) -> None:
        of_rows = self._to_tensor(rows)
        if images is None:
            self._state = select_rows(self._state, of_rows)
        else:
            self._state = select_images(self._state, self._to_tensor(images), of_rows)

    def stack(self, weights: Sequence[Any]) -> Any:
        return torch.stack(list(weights))

    def _to_tensor(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, device=self._device)
