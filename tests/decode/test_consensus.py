"""Consensus re-ranking: the definition, the official CIDEr-D, and what a search does with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from captioner.config import DecodeConfig
from captioner.data.token_ids import EncodedCaptions
from captioner.decode.consensus import ConsensusPredictor
from captioner.decode.quantized_rows import QuantizedRows
from captioner.decode.run_search import search
from captioner.errors import ConfigError
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.consensus import RECORD, random_predictor, similarity_by_definition
from tests.decode.decoders import TinyDecoder, make_features, one_image

WORDS = 3  # tokens 4, 5, 6
CAPTIONS = [(4,), (4, 4, 5, 6), (6, 5, 4, 6, 5, 4, 4), (5, 6), (4, 5, 6, 4, 5)]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_similarities_are_those_of_the_definition(bits: int) -> None:
    for seed in range(3):
        predictor = random_predictor(bits=bits, seed=seed)
        vector = np.random.default_rng(seed + 10).normal(size=5)
        expected = [similarity_by_definition(predictor, vector, caption) for caption in CAPTIONS]
        np.testing.assert_allclose(predictor.similarities(vector, CAPTIONS), expected, rtol=1e-9)


def test_it_is_the_official_cider_of_the_captions_that_are_predicted() -> None:
    """Captions of equal length without a repeated word: there CIDEr-D's clipping and length penalty do nothing."""
    scorer = pytest.importorskip("pycocoevalcap.cider.cider").Cider()
    analysis = pytest.importorskip("captioner.analysis.fit_consensus")
    random = np.random.default_rng(0)
    references = [[(random.permutation(9)[:6] + 4).tolist() for _ in range(1 + i % 3)] for i in range(40)]
    generated = [(random.permutation(9)[:6] + 4).tolist() for _ in references]
    targets = analysis.ReferenceVectors.of_captions(EncodedCaptions.from_lists(references), 3, 1)
    official = scorer.compute_score(
        {i: [" ".join(map(str, one)) for one in captions] for i, captions in enumerate(references)},
        {i: [" ".join(map(str, one))] for i, one in enumerate(generated)},
    )[1]
    grams = len(targets.ngrams)
    for image, caption in enumerate(generated):
        predictor = ConsensusPredictor(
            mean=np.zeros(2, np.float32),
            projection=QuantizedRows.from_matrix(np.eye(2), 8),
            ngrams=targets.ngrams,
            document_frequencies=targets.document_frequencies,
            images=len(references),
            other_frequency=1.0,
            offset=targets.rows(image, image + 1)[0],
            weights=QuantizedRows(np.full((grams, 2), 128, np.uint8), np.full(grams, 1e-12, np.float32), 8, 2),
            record=RECORD,
        )
        (found,) = predictor.similarities(np.ones(2), [caption])
        assert found == pytest.approx(official[image], rel=1e-5, abs=1e-6)
    assert max(official) > 0.5, "something is similar"


def test_an_image_at_the_mean_gets_the_mean_prediction() -> None:
    predictor = random_predictor()
    flat = replace(predictor, weights=replace(predictor.weights, steps=np.zeros_like(predictor.weights.steps)))
    at_mean = predictor.mean.astype(np.float64)
    np.testing.assert_array_equal(
        predictor.similarities(at_mean, CAPTIONS), flat.similarities(np.ones(5), CAPTIONS), "x is zero there"
    )


@pytest.mark.parametrize("name", ["beam", "diverse"])
@pytest.mark.parametrize("n_best", [1, 2, 6])
def test_a_search_ranks_all_its_captions_by_score_and_similarity(name: str, n_best: int) -> None:
    predictor, features = random_predictor(), make_features(8, 1)
    decoder = TinyDecoder(WORDS, 3)
    config = DecodeConfig(name=name, max_length=5, beam_width=6, length_penalty=1.0)
    everything = search(decoder, features, config, SPECIAL_TOKENS, n_best=6)
    weight = 2.0
    found = search(
        decoder, features, replace(config, consensus_weight=weight), SPECIAL_TOKENS, n_best=n_best, consensus=predictor
    )
    changed = 0
    for image, (before, after) in enumerate(zip(everything, found, strict=True)):
        vector = features.vector[image].float().numpy()
        scores = [one.score + weight * similarity_by_definition(predictor, vector, one.tokens) for one in before]
        order = sorted(range(len(before)), key=lambda i: (not before[i].finished, -scores[i]))
        assert [one.tokens for one in after] == [before[i].tokens for i in order][:n_best]
        for one, i in zip(after, order, strict=False):
            assert one.score == pytest.approx(scores[i], rel=1e-9)
            assert one.log_prob == before[i].log_prob, "the model's own"
        changed += order[0] != 0
    assert changed, "it chooses other captions"


def test_images_do_not_depend_on_their_batch() -> None:
    predictor, features, decoder = random_predictor(), make_features(4, 2), TinyDecoder(WORDS, 2)
    config = DecodeConfig(max_length=5, beam_width=4, length_penalty=1.0, consensus_weight=0.3)
    together = search(decoder, features, config, SPECIAL_TOKENS, n_best=4, consensus=predictor)
    for image, found in enumerate(together):
        (alone,) = search(decoder, one_image(features, image), config, SPECIAL_TOKENS, n_best=4, consensus=predictor)
        assert [one.tokens for one in alone] == [one.tokens for one in found]


def test_weight_zero_changes_nothing() -> None:
    features, decoder = make_features(3, 0), TinyDecoder(WORDS, 0)
    config = DecodeConfig(max_length=5, beam_width=3)
    plain = search(decoder, features, config, SPECIAL_TOKENS, n_best=2)
    assert search(decoder, features, config, SPECIAL_TOKENS, n_best=2, consensus=random_predictor()) == plain


def test_a_weight_without_a_predictor_is_one_message() -> None:
    features, decoder = make_features(1, 0), TinyDecoder(WORDS, 0)
    with pytest.raises(ConfigError, match=r"consensus_weight=0\.5 needs a consensus predictor.*captioner consensus"):
        search(decoder, features, DecodeConfig(consensus_weight=0.5), SPECIAL_TOKENS)
    greedy = DecodeConfig(name="greedy", consensus_weight=0.5)  # a search that does not use it needs none
    assert search(decoder, features, greedy, SPECIAL_TOKENS)
