"""Greedy search: the most probable token at each step."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.decoding_loop import run_decoding_loop
from captioner.decode.hypothesis import Hypothesis
from captioner.decode.scores import most_probable
from captioner.decode.screened_greedy import screened_greedy
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SpecialTokens


def greedy(
    decoder: Decoder[Any],
    features: ImageFeatures,
    config: DecodeConfig,
    special: SpecialTokens,
    phrases: PhraseStatistics | None = None,
) -> list[Hypothesis]:
    """One hypothesis per image: at each step the most probable allowed token; among equals the lowest token id."""
    screened = screened_greedy(decoder, features, config, special, phrases)
    if screened is not None:
        return [screened]
    return run_decoding_loop(decoder, features, config, special, _most_probable, phrases)


def _most_probable(logits: Float[Tensor, "N V"], images: list[int], length: int) -> Int[Tensor, " N"]:
    return most_probable(logits)
