"""Every number of the settings at its extremes: a message, or a caption; never another exception, never no end."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

from captioner.config import SEARCHES, USED_BY, DecodeConfig
from captioner.decode import Hypothesis, search
from captioner.errors import ConfigError
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import make_features
from tests.decode.test_contrastive import ReadingDecoder

NUMBERS = [entry.name for entry in fields(DecodeConfig) if entry.type in ("int", "float")]
EXTREMES = [-math.inf, -1e308, -1, 0, 1e-320, 1e-45, 1, 2, 1e9, 1e38, 1e308, math.inf, math.nan, 10**30, 4096]


@pytest.mark.parametrize("setting", NUMBERS)
def test_an_extreme_value_gives_a_message_or_a_caption(setting: str) -> None:
    decoder, features = ReadingDecoder(5).eval(), make_features(2)
    decoder.output.words.bias.data[SPECIAL_TOKENS.end] += 3.0  # captions end long before 4,096 words
    kind = type(getattr(DecodeConfig(), setting))
    tried = 0
    for value in EXTREMES:
        if kind is int and not isinstance(value, int):
            continue
        for name in USED_BY.get(setting, SEARCHES):
            settings: dict[str, Any] = {"max_length": 4} | {"name": name, setting: kind(value)}
            found = _captions_or_message(decoder, features, setting, settings)
            if found is None:
                continue
            for one in found:
                assert math.isfinite(one.log_prob)
                assert len(one.tokens) <= max(4, value)
            tried += 1
    assert tried


def _captions_or_message(
    decoder: ReadingDecoder, features: ImageFeatures, setting: str, settings: dict[str, Any]
) -> list[Hypothesis] | None:
    """The best captions; None where the settings are refused by a message that names the setting."""
    try:
        of_images = search(decoder, features, DecodeConfig(**settings), SPECIAL_TOKENS)
    except ConfigError as error:
        if f"decode.{setting}" not in str(error):
            raise
        return None
    return [best for best, *_ in of_images]
