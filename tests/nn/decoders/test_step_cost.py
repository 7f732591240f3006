"""The multiply-adds of a decoding step do not depend on the words before, but for attention to them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from captioner.config import DECODERS
from captioner.nn.packing import pack_captions
from captioner.nn.types import repeat_rows
from tests.nn.decoders.decoder_checks import make_attending

H, LAYERS, ROWS = 8, 2, 6
WORDS = torch.full((ROWS,), 4)
ATTENDS_TO_WORDS = {"transformer", "m2"}


def multiply_adds(function: Any) -> int:
    """Those of all matrix products. The plain form of attention is counted; the fused one is one opaque operation."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return flops // 2


@pytest.mark.parametrize("name", DECODERS)
def test_each_word_costs_the_same_but_for_attention_to_the_words_before(name: str) -> None:
    config = DECODERS[name](name=name, embedding_dim=H, hidden_dim=H, layers=LAYERS)
    decoder, features = make_attending(config)
    decoder.requires_grad_(False)  # the counter's hooks would want a graph
    state = repeat_rows(decoder.init_state(features), 2)
    costs = []
    for _ in range(8):
        result: list[Any] = []
        costs.append(multiply_adds(lambda state=state, result=result: result.append(decoder.step(WORDS, state))))
        state = result[0].state
    differences = {after - before for before, after in pairwise(costs[1:])}
    attention = 2 * H * LAYERS * ROWS if name in ATTENDS_TO_WORDS else 0  # a key and a value more in each layer
    assert differences == {attention}


@pytest.mark.parametrize("name", sorted(ATTENDS_TO_WORDS))
def test_a_caption_costs_less_than_reading_its_prefixes_again(name: str) -> None:
    """The kept keys and values: 8 steps cost what one pass over 8 words does, not what 8 passes do."""
    config = DECODERS[name](name=name, embedding_dim=H, hidden_dim=H, layers=LAYERS)
    decoder, features = make_attending(config)
    decoder.requires_grad_(False)  # the counter's hooks would want a graph
    one = features.images(lambda tensor: tensor[:1])

    def decode() -> None:
        state = decoder.init_state(one)
        for _ in range(8):
            state = decoder.step(torch.tensor([4]), state).state

    def read(length: int) -> int:
        return multiply_adds(lambda: decoder(one, pack_captions([[[4] * (length - 1)]])))

    image = multiply_adds(lambda: decoder.init_state(one))
    assert multiply_adds(decode) <= read(8)
    assert multiply_adds(decode) - image < sum(read(length) - image for length in range(1, 9)) / 4
