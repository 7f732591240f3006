"""Sampling: the right frequencies, the right support, and samples that do not depend on the batch."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode import search
from captioner.decode.greedy import greedy
from captioner.decode.sampling import (
    NUCLEUS_CANDIDATES,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    sample,
    sample_from_logits,
    uniform_samples,
    with_temperature,
)
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import END, TableDecoder, TinyDecoder, make_features, same_logits

DRAWS = 8_000


def chi_square(counts: Counter[tuple[int, ...]], probabilities: dict[tuple[int, ...], float]) -> float:
    """Pearson's statistic; about Normal(k, 2k) for k = outcomes − 1 where every outcome is frequent."""
    assert set(counts) <= set(probabilities), "an impossible caption was sampled"
    total = sum(counts.values())
    return sum((counts[one] - total * p) ** 2 / (total * p) for one, p in probabilities.items())


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 0, 1.0), (1.0, 2, 1.0), (1.5, 0, 0.7)]
)
def test_captions_are_sampled_with_their_probability(temperature: float, top_k: int, top_p: float) -> None:
    """All captions of up to two words, over three words: 1 + 3 + 9 finished, and those cut at the limit."""
    table = torch.tensor(np.random.default_rng(0).normal(size=(7, 7)))
    config = DecodeConfig(name="sample", max_length=2, temperature=temperature, top_k=top_k, top_p=top_p, seed=1)
    found = sample(TableDecoder(table), make_features(DRAWS), config, SPECIAL_TOKENS)
    counts = Counter((*one.tokens, END) if one.finished else one.tokens for one in found)

    def next_token(previous: int) -> dict[int, float]:
        scores = {token: math.exp(float(table[previous, token]) / temperature) for token in (END, 4, 5, 6)}
        total = sum(scores.values())
        kept: dict[int, float] = {}
        for token in sorted(scores, key=lambda token: -scores[token])[: top_k or None]:
            if sum(kept.values()) < top_p * total:
                kept[token] = scores[token]
        return {token: kept[token] / sum(kept.values()) for token in kept}

    expected: dict[tuple[int, ...], float] = {}
    for first, p in next_token(SPECIAL_TOKENS.start).items():
        if first == END:
            expected[(END,)] = p
            continue
        for second, q in next_token(first).items():
            if second == END:
                expected[(first, END)] = p * q
                continue
            end = next_token(second).get(END, 0.0)
            expected[(first, second, END)] = p * q * end
            expected[(first, second)] = p * q * (1 - end)
    expected = {caption: p for caption, p in expected.items() if p > 0}
    assert sum(expected.values()) == pytest.approx(1)
    freedom = len(expected) - 1
    assert chi_square(counts, expected) < freedom + 4 * math.sqrt(2 * freedom)


def test_the_log_probability_knows_no_temperature() -> None:
    table = torch.randn(8, 8, dtype=torch.float64)
    log_probs = table.log_softmax(dim=1)
    config = DecodeConfig(name="sample", temperature=3.0, top_k=3, max_length=1)
    for one in sample(TableDecoder(table), make_features(50), config, SPECIAL_TOKENS):
        tokens = (*one.tokens, END) if one.finished else one.tokens
        before = (SPECIAL_TOKENS.start, *tokens)
        expected = sum(float(log_probs[a, b]) for a, b in zip(before, tokens, strict=False))
        assert one.log_prob == pytest.approx(expected, abs=1e-12)


def test_a_low_temperature_and_a_single_choice_are_greedy_search() -> None:
    decoder, features = TinyDecoder(words=12), make_features(10)
    expected = greedy(decoder, features, DecodeConfig(name="greedy"), SPECIAL_TOKENS)
    for settings in ({"temperature": 1e-6}, {"top_k": 1}, {"top_p": 1e-6}):
        config = DecodeConfig(name="sample", **settings)  # type: ignore[arg-type]
        assert sample(decoder, features, config, SPECIAL_TOKENS) == expected


def test_samples_depend_only_on_id_and_seed() -> None:
    ids = ["a", 7, "b"]
    draws = uniform_samples(0, ids, 50)
    torch.testing.assert_close(draws[[2, 0]], uniform_samples(0, ["b", "a"], 50), rtol=0, atol=0)
    assert torch.unique(torch.cat((draws, uniform_samples(1, ids, 50), uniform_samples(0, range(5), 50)))).numel() > 500
    assert uniform_samples(0, [], 50).shape == (0, 50)


def test_samples_do_not_depend_on_the_precision_of_features() -> None:
    decoder, features = same_logits([0.0] * 5000), make_features(200)
    config = DecodeConfig(name="sample", max_length=3)
    coarse = ImageFeatures(features.vector.bfloat16())
    expected = sample(decoder, features, config, SPECIAL_TOKENS)
    assert sample(decoder, coarse, config, SPECIAL_TOKENS) == expected


def test_seeds_give_different_captions_of_one_image() -> None:
    captions = {
        sample(TinyDecoder(words=30), make_features(1), DecodeConfig(name="sample", seed=seed), SPECIAL_TOKENS)[0]
        for seed in range(20)
    }
    assert len(captions) > 10


def test_an_id_for_every_image_or_none() -> None:
    with pytest.raises(ValueError, match="2 image_ids were given for 3 images"):
        sample(TinyDecoder(words=3), make_features(3), DecodeConfig(name="sample"), SPECIAL_TOKENS, [1, 2])


def support(logits: Tensor) -> list[set[int]]:
    return [{int(word) for word in (row > -math.inf).nonzero()} for row in logits]


def by_rank(row: Tensor) -> list[int]:
    return sorted(range(len(row)), key=lambda word: (-float(row[word]), word))


@pytest.mark.parametrize("k", [1, 2, 5, 11, 12, 100])
def test_top_k_keeps_the_k_most_probable_and_of_equals_the_first(k: int) -> None:
    logits = torch.randint(-3, 4, (40, 12)).double()
    kept = keep_top_k(logits, k)
    assert support(kept) == [set(by_rank(row)[:k]) for row in logits]
    assert torch.equal(kept[kept > -math.inf], logits[kept > -math.inf])


@pytest.mark.parametrize("p", [1e-9, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("size", [7, NUCLEUS_CANDIDATES, 4 * NUCLEUS_CANDIDATES])
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_top_p_keeps_the_smallest_set_with_that_probability(p: float, size: int, scale: float) -> None:
    logits = torch.randn(6, size, dtype=torch.float64) * scale
    kept = keep_top_p(logits.clone(), p)
    for row, words in zip(logits, support(kept), strict=True):
        ranked, probabilities = by_rank(row), row.softmax(dim=0)
        assert words == set(ranked[: len(words)]), "the most probable"
        assert float(probabilities[ranked[: len(words)]].sum()) >= p, "enough"
        assert float(probabilities[ranked[: len(words) - 1]].sum()) < p, "not one too many"


def test_top_p_takes_the_first_of_equals() -> None:
    assert support(keep_top_p(torch.zeros(1, 8), 0.5)) == [{0, 1, 2, 3}]
    assert support(keep_top_p(torch.zeros(1, 1024), 0.5)) == [set(range(512))]


def test_top_p_counts_what_top_k_left() -> None:
    kept = keep_top_p(keep_top_k(torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log(), 2), 0.55)
    assert support(kept) == [{0}]  # 0.4 / 0.7 = 0.571


def test_a_token_is_sampled_over_its_share_of_the_unit_interval() -> None:
    logits = torch.tensor([0.0, 0.5, 0.0, 0.25, 0.25, 0.0], dtype=torch.float64).log()
    for uniform, word in ((0.0, 1), (0.4999, 1), (0.5, 3), (0.7499, 3), (0.75, 4), (1 - 2**-53, 4)):
        assert sample_from_logits(logits[None], torch.tensor([uniform], dtype=torch.float64)).tolist() == [word]


def test_the_largest_random_number_never_selects_an_impossible_token() -> None:
    logits = torch.randn(2000, 300)
    logits[:, 150:] = -math.inf
    largest = torch.full((2000,), 1 - 2**-24)
    assert int(sample_from_logits(logits, largest).max()) < 150


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_min_p_keeps_a_share_of_the_highest_probability(share: float) -> None:
    logits = 2 * torch.randn(50, 12, dtype=torch.float64)
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    kept = torch.isfinite(keep_min_p(logits, share)).numpy()
    np.testing.assert_array_equal(kept, p >= share * p.max(1, keepdims=True))


@pytest.mark.parametrize("p", [0.05, 0.5, 0.95])
def test_typical_tokens_by_the_definition(p: float) -> None:
    logits = 2 * torch.randn(50, 12, dtype=torch.float64)
    logits[:, 3] = -math.inf
    kept = torch.isfinite(keep_typical(logits, p)).numpy()
    for row, of_row in zip(logits.numpy(), kept, strict=True):
        probabilities = np.exp(row) / np.exp(row).sum()
        possible = [token for token in range(12) if probabilities[token] > 0]
        entropy = -sum(probabilities[token] * np.log(probabilities[token]) for token in possible)
        expected, total = set(), 0.0
        for token in sorted(possible, key=lambda token: abs(-np.log(probabilities[token]) - entropy)):
            if total >= p:
                break
            expected.add(token)
            total += probabilities[token]
        assert set(np.flatnonzero(of_row)) == expected


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-20, 1e20, 1e300])
def test_extreme_temperatures_are_greedy_search_and_chance(temperature: float) -> None:
    decoder, features = TinyDecoder(words=8), make_features(6)
    config = DecodeConfig(name="sample", temperature=temperature, max_length=6)
    found = search(decoder, features, config, SPECIAL_TOKENS)
    assert all(math.isfinite(one.log_prob) for (one,) in found)
    if temperature < 1:
        expected = search(decoder, features, replace(config, name="greedy"), SPECIAL_TOKENS)
        assert [one.tokens for (one,) in found] == [one.tokens for (one,) in expected]
    else:
        logits = with_temperature(torch.tensor([[1.0, -math.inf, 1e4]]), temperature)
        torch.testing.assert_close(logits.softmax(1), torch.tensor([[0.5, 0.0, 0.5]]))
