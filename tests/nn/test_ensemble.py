"""Ensembles against the mean written by hand: in teacher forcing, in every search, in attention maps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from captioner.config import DECODERS, SEARCHES, DecodeConfig
from captioner.decode import search
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.ensemble import EnsembleDecoder, Member, mean_log_probs, region_overlap
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import TinyDecoder, assert_same, make_features, one_image, same_logits

MEANS = ("probabilities", "log_probabilities")
every_mean = pytest.mark.parametrize("mean", MEANS)
# Contrastive search compares vectors that TinyDecoder does not have: tests/decode/test_contrastive.py.
every_search = pytest.mark.parametrize("name", [name for name in SEARCHES if name != "contrastive"])


def two_encoders(images: int) -> ImageFeatures:
    """Features from one encoder with 3 regions of 5 channels, and from another with 4 of 6."""
    return make_features(images)._replace(others=(make_features(images, seed=9, dim=6, cells=4),))


def members(seed: int = 0) -> list[Member]:
    """Two of the first encoder, one of the second, whose 4 regions are the 3 of the first: 2 × 2 against 1 × 3."""
    return [
        Member(TinyDecoder(7, seed)),
        Member(TinyDecoder(7, seed + 10)),
        Member(TinyDecoder(7, seed + 20, dim=6), 1, regions=region_overlap(2, 2, 1, 3)),
    ]


def test_means_by_hand() -> None:
    logits = [torch.randn(4, 6, dtype=torch.float64) * 3 for _ in range(3)]
    probabilities = np.stack([np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (one.numpy() for one in logits)])
    arithmetic = mean_log_probs(logits, "probabilities").numpy()
    np.testing.assert_allclose(np.exp(arithmetic), probabilities.mean(0), atol=1e-14)
    np.testing.assert_allclose(np.exp(arithmetic).sum(1), 1, atol=1e-14)
    geometric = np.exp(np.log(probabilities).mean(0))
    found = mean_log_probs(logits, "log_probabilities").softmax(dim=1).numpy()
    np.testing.assert_allclose(found, geometric / geometric.sum(1, keepdims=True), atol=1e-14)


def test_a_probability_too_small_for_float32_is_not_zero() -> None:
    logits = torch.tensor([[0.0, -200.0]])
    assert mean_log_probs([logits, logits], "probabilities")[0, 1].item() == pytest.approx(-200.0)


def test_half_precision_is_summed_in_single() -> None:
    logits = torch.randn(2, 3000).bfloat16()
    found = mean_log_probs([logits, logits], "probabilities")
    torch.testing.assert_close(found, logits.float().log_softmax(1), atol=1e-5, rtol=0)


def by_hand(features: ImageFeatures, tokens: tuple[int, ...], mean: str) -> tuple[list[float], Tensor]:
    """The ensemble's log-probability of each token of one image's caption, and its attention, member by member."""
    of_members, maps = [], []
    for index, member in enumerate(members()):
        own = features if index < 2 else features.others[0]
        state, previous, rows, attention = member.decoder.init_state(own), SPECIAL_TOKENS.start, [], []
        for token in tokens:
            step = member.decoder.step(torch.tensor([previous]), state)
            state, previous = step.state, token
            exponentials = np.exp(step.logits[0].numpy())
            rows.append(exponentials / exponentials.sum())
            attention.append(step.attention[0])  # type: ignore[index]
        of_members.append(rows)
        maps.append(torch.stack(attention))
    # Columns of a 2 × 2 grid on a 1 × 3 grid: the left third is 2/3 of the left half, the middle 1/3 of each half.
    left, right = maps[2][:, 0] + maps[2][:, 2], maps[2][:, 1] + maps[2][:, 3]
    maps[2] = torch.stack([left * 2 / 3, (left + right) / 3, right * 2 / 3], dim=1)
    log_probs = []
    for step, token in enumerate(tokens):
        p = np.stack([rows[step] for rows in of_members])
        joint = p.mean(0) if mean == "probabilities" else np.exp(np.log(p).mean(0))
        log_probs.append(math.log(joint[token] / joint.sum()))
    return log_probs, torch.stack(maps).mean(0)


@every_search
@every_mean
def test_every_search_gives_what_the_mean_by_hand_gives(name: Any, mean: str) -> None:
    features = two_encoders(5)
    config = DecodeConfig(name=name, max_length=6, beam_width=3)
    decoder = EnsembleDecoder(members(), mean).eval()
    for image, (found, *_) in enumerate(search(decoder, features, config, SPECIAL_TOKENS)):
        own = one_image(features, image)._replace(others=(one_image(features.others[0], image),))
        scored = (*found.tokens, SPECIAL_TOKENS.end) if found.finished else found.tokens
        log_probs, attention = by_hand(own, scored, mean)
        assert found.log_prob == pytest.approx(sum(log_probs), abs=1e-10)
        assert found.attention is not None
        torch.testing.assert_close(found.attention, attention[: len(found.tokens)], atol=1e-6, rtol=0)


def test_greedy_takes_the_word_that_the_mean_prefers() -> None:
    """Two members prefer one word weakly, one prefers another strongly: the two means disagree."""

    def fixed(probabilities: list[float]) -> Decoder[Any]:
        return same_logits([-50.0, -50.0, *map(math.log, [1e-9, 1e-12, *probabilities])])

    of_members = [fixed([0.5, 0.3]), fixed([0.5, 0.3]), fixed([0.0001, 0.7])]
    words = []
    for mean in MEANS:
        ensemble = EnsembleDecoder([Member(decoder) for decoder in of_members], mean).eval()
        (found,) = search(ensemble, make_features(1), DecodeConfig(name="greedy", max_length=1), SPECIAL_TOKENS)[0]
        words.append(found.tokens)
    shares = [[p / sum(q) for p in q] for q in ([0.5, 0.3], [0.5, 0.3], [0.0001, 0.7])]
    arithmetic = [sum(share[i] for share in shares) for i in range(2)]
    geometric = [math.prod(share[i] for share in shares) for i in range(2)]
    assert words == [(4 + arithmetic.index(max(arithmetic)),), (4 + geometric.index(max(geometric)),)]


@every_search
@every_mean
def test_an_image_gets_the_same_in_a_batch_as_alone(name: Any, mean: str) -> None:
    features = two_encoders(7)
    config = DecodeConfig(name=name, max_length=9, no_repeat_ngram=2)
    decoder = EnsembleDecoder(members(3), mean).eval()
    ids = [f"photo {i}" for i in range(7)]
    together = search(decoder, features, config, SPECIAL_TOKENS, image_ids=ids)
    for image, (found, *_) in enumerate(together):
        own = one_image(features, image)._replace(others=(one_image(features.others[0], image),))
        (alone,) = search(decoder, own, config, SPECIAL_TOKENS, image_ids=[ids[image]])
        assert_same(found, alone[0])


@pytest.mark.parametrize("model", DECODERS)
def test_every_decoder_can_be_a_member(model: str) -> None:
    """An ensemble of a model and itself is the model, in a search and in teacher forcing, whatever its state is."""
    config = DECODERS[model](name=model, embedding_dim=8, hidden_dim=8)
    decoder = build_decoder(config, vocabulary_size=12, feature_dim=5).double().eval()
    ensemble = EnsembleDecoder([Member(decoder), Member(decoder)], "probabilities").eval()
    assert ensemble.attends == decoder.attends
    assert ensemble.attention_at_test == decoder.attention_at_test
    features, settings = make_features(3), DecodeConfig(max_length=6, beam_width=2)
    expected = search(decoder, features, settings, SPECIAL_TOKENS)
    for found, alone in zip(search(ensemble, features, settings, SPECIAL_TOKENS), expected, strict=True):
        assert_same(found[0], alone[0])
    packed = pack_captions([[(4, 5, 6), (7,)], [], [(8, 9)]])
    with torch.no_grad():
        of_ensemble, of_decoder = ensemble(features, packed), decoder(features, packed)
    torch.testing.assert_close(of_ensemble.logits, of_decoder.logits.log_softmax(1), atol=1e-10, rtol=0)
    if of_decoder.attention is not None:
        torch.testing.assert_close(of_ensemble.attention, of_decoder.attention, atol=1e-10, rtol=0)


def test_setting_how_hard_attention_is_used_reaches_the_members() -> None:
    config = DECODERS["attention"](attention="hard", embedding_dim=8, hidden_dim=8)
    hard = build_decoder(config, vocabulary_size=12, feature_dim=5)
    ensemble = EnsembleDecoder([Member(TinyDecoder(8)), Member(hard)], "probabilities")
    for how in ("sample", "expected"):
        ensemble.attention_at_test = how
        assert ensemble.attention_at_test == hard.attention_at_test == how
    assert EnsembleDecoder([Member(TinyDecoder(8))], "probabilities").attention_at_test is None


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (7, 7), (5, 4)])
def test_overlap_of_grids_by_counting_points(rows: int, columns: int) -> None:
    """Weights on one grid spread over 3 × 4 regions, by sampling each region densely."""
    overlap = region_overlap(rows, columns, 3, 4)
    assert overlap.shape == (rows * columns, 12)
    torch.testing.assert_close(overlap.sum(dim=1), torch.ones(rows * columns))
    fine = 420  # a multiple of all counts
    y, x = np.mgrid[0:fine, 0:fine]
    of_region = (y * rows // fine) * columns + x * columns // fine
    to_region = (y * 3 // fine) * 4 + x * 4 // fine
    counted = np.zeros((rows * columns, 12))
    np.add.at(counted, (of_region.ravel(), to_region.ravel()), rows * columns / fine**2)
    np.testing.assert_allclose(overlap.numpy(), counted, atol=1e-5)


def test_several_views_keep_their_regions_apart() -> None:
    """Two images side by side: 2 · 4 regions of the second encoder's grids become 2 · 3 of the first's."""
    first, second = make_features(1, cells=6), make_features(1, seed=3, dim=6, cells=8)
    ensemble = EnsembleDecoder([members()[2], Member(TinyDecoder(7))], "probabilities").eval()
    with torch.no_grad():
        state = ensemble.init_state(first._replace(others=(second,)))
        step = ensemble.step(torch.tensor([1]), state)
    assert step.attention is not None
    assert step.attention.shape == (1, 6)
    assert float(step.attention.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1.0, 30.0, 500.0])
def test_the_mean_of_probabilities_is_exact_where_some_are_tiny(scale: float) -> None:
    """Against float64; with the larger scales many probabilities are too small for float32, and not 0."""
    generator = np.random.default_rng(0)
    logits = [(generator.normal(size=(4, 50)) * scale).astype(np.float32).astype(np.float64) for _ in range(3)]
    shifted = [one - one.max(axis=1, keepdims=True) for one in logits]
    log_probs = [one - np.log(np.exp(one).sum(axis=1, keepdims=True)) for one in shifted]
    expected = np.logaddexp.reduce(log_probs) - np.log(3)
    found = mean_log_probs([torch.tensor(one, dtype=torch.float32) for one in logits], "probabilities").numpy()
    np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-6)
    assert np.isfinite(found).all()
