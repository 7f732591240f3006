"""Properties of every search."""

from __future__ import annotations

import math

import pytest
import torch

from captioner.config import DECODERS, DecodeConfig
from captioner.decode import search
from captioner.errors import CaptionerError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import (
    END,
    TableDecoder,
    TinyDecoder,
    assert_same,
    make_features,
    one_image,
    repeats_an_ngram,
    same_logits,
    score_caption,
)

SEARCHES = ("greedy", "sample", "beam")
every_search = pytest.mark.parametrize("name", SEARCHES)


@every_search
@pytest.mark.parametrize("end_bias", [-3.0, 0.0, 3.0])
def test_the_log_probability_and_the_attention_are_those_of_scoring_the_caption_again(
    name: str, end_bias: float
) -> None:
    features = make_features(8)
    decoder = TinyDecoder(words=12, end_bias=end_bias)
    config = DecodeConfig(name=name, max_length=6, temperature=2.0, length_penalty=0.7)
    for image, found in enumerate(search(decoder, features, config, SPECIAL_TOKENS, n_best=3)):
        for one in found:
            again = score_caption(decoder, one_image(features, image), one.tokens, one.finished)
            assert one.log_prob == pytest.approx(again.log_prob, abs=1e-10)
            assert one.score == pytest.approx(again.log_prob / max(1, len(one.tokens) + one.finished) ** 0.7, abs=1e-10)
            assert one.attention is not None
            assert one.attention.shape == (len(one.tokens), 3)
            if one.tokens:
                torch.testing.assert_close(one.attention, again.attention, rtol=0, atol=1e-10)


@every_search
@pytest.mark.parametrize("seed", range(3))
def test_an_image_gets_the_same_in_a_batch_as_alone(name: str, seed: int) -> None:
    features, ids = make_features(9, seed), [f"photo {i}" for i in range(9)]
    decoder = TinyDecoder(words=10, seed=seed, end_bias=1.5)
    config = DecodeConfig(name=name, max_length=12, no_repeat_ngram=2)
    together = search(decoder, features, config, SPECIAL_TOKENS, n_best=2, image_ids=ids)
    assert len({len(found[0].tokens) for found in together}) > 1, "the images should end at different steps"
    for image, found in enumerate(together):
        alone = search(decoder, one_image(features, image), config, SPECIAL_TOKENS, n_best=2, image_ids=[ids[image]])
        assert len(found) == len(alone[0])
        for one, other in zip(found, alone[0], strict=True):
            assert_same(one, other)


@every_search
@pytest.mark.parametrize("allow_unknown", [False, True])
def test_only_words_are_generated(name: str, allow_unknown: bool) -> None:
    decoder = same_logits([9.0, 9.0, 1.0, 8.0, 0.0, 0.5])  # <PAD>, <START> and <UNK> are the most probable
    config = DecodeConfig(name=name, max_length=8, min_length=4, allow_unknown=allow_unknown)
    said = {
        token
        for found in search(decoder, make_features(20), config, SPECIAL_TOKENS, n_best=3)
        for one in found
        for token in one.tokens
    }
    assert said <= ({3, 4, 5} if allow_unknown else {4, 5})
    assert (3 in said) == allow_unknown


@every_search
@pytest.mark.parametrize(("end_bias", "least", "most"), [(8.0, 3, 5), (-30.0, 0, 4), (0.0, 2, 2)])
def test_lengths_stay_between_min_and_max(name: str, end_bias: float, least: int, most: int) -> None:
    config = DecodeConfig(name=name, min_length=least, max_length=most)
    decoder = TinyDecoder(words=8, end_bias=end_bias)
    for found in search(decoder, make_features(10), config, SPECIAL_TOKENS, n_best=3):
        for one in found:
            assert least <= len(one.tokens) <= most
            assert one.finished or len(one.tokens) == most


@every_search
def test_a_caption_of_max_length_is_finished_where_end_follows(name: str) -> None:
    logits = torch.full((6, 6), -50.0, dtype=torch.float64)
    logits[1, 4], logits[4, 5], logits[5, END] = 0.0, 0.0, 0.0  # 4 5 <END> is almost certain
    for most, tokens, finished in ((2, (4, 5), True), (1, (4,), False)):
        config = DecodeConfig(name=name, max_length=most, beam_width=1)
        (found,) = search(TableDecoder(logits), make_features(1), config, SPECIAL_TOKENS)
        assert (found[0].tokens, found[0].finished) == (tokens, finished)
        assert found[0].log_prob == pytest.approx(0.0, abs=1e-10)


@every_search
@pytest.mark.parametrize("seed", range(3))
def test_an_unfinished_caption_is_returned_and_marked(name: str, seed: int) -> None:
    decoder = TinyDecoder(words=8, seed=seed, end_bias=-math.inf)
    config = DecodeConfig(name=name, max_length=5)
    for found in search(decoder, make_features(4), config, SPECIAL_TOKENS):
        assert len(found) == 1
        assert len(found[0].tokens) == 5
        assert not found[0].finished
        assert math.isfinite(found[0].log_prob)


@every_search
@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_is_generated_twice(name: str, n: int) -> None:
    decoder = TinyDecoder(words=4, end_bias=-12.0, sharpness=3.0)
    free = search(decoder, make_features(6), DecodeConfig(name=name, max_length=20), SPECIAL_TOKENS)
    assert any(repeats_an_ngram(found[0].tokens, n) for found in free), "else this test shows nothing"
    config = DecodeConfig(name=name, max_length=20, no_repeat_ngram=n)
    for found in search(decoder, make_features(6), config, SPECIAL_TOKENS, n_best=3):
        assert not any(repeats_an_ngram(one.tokens, n) for one in found)


@every_search
def test_where_no_word_is_left_the_caption_ends_early(name: str) -> None:
    config = DecodeConfig(name=name, min_length=6, max_length=9, no_repeat_ngram=1)
    (found,) = search(same_logits([0.0] * 6), make_features(1), config, SPECIAL_TOKENS, n_best=3)
    assert sorted(found[0].tokens) == [4, 5]
    assert found[0].finished
    assert found[0].log_prob == pytest.approx(-3 * math.log(6))


@every_search
@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_without_any_possible_token_the_caption_so_far_is_returned(name: str, top_p: float) -> None:
    decoder = same_logits([0.0, 0.0, -math.inf, 0.0, 0.0, 0.0])
    config = DecodeConfig(name=name, max_length=9, no_repeat_ngram=1, top_p=top_p)
    (found,) = search(decoder, make_features(1), config, SPECIAL_TOKENS)
    assert sorted(found[0].tokens) == [4, 5]
    assert not found[0].finished
    assert found[0].log_prob == pytest.approx(-2 * math.log(5))


@every_search
def test_a_model_without_any_possible_token_gives_an_empty_caption(name: str) -> None:
    decoder = same_logits([0.0, 0.0, -math.inf, 0.0, -math.inf])
    (found,) = search(decoder, make_features(1), DecodeConfig(name=name), SPECIAL_TOKENS)
    assert (found[0].tokens, found[0].finished, found[0].log_prob) == ((), False, 0.0)


@every_search
def test_scores_that_are_not_numbers_are_an_error_that_names_the_image(name: str) -> None:
    features = make_features(3)
    assert features.grid is not None
    features.grid[1, 2, 3] = math.nan
    with pytest.raises(CaptionerError, match=r"image 1 .*word 1 .*NaN"):
        search(TinyDecoder(words=5), features, DecodeConfig(name=name), SPECIAL_TOKENS)


@every_search
def test_no_images_give_no_captions(name: str) -> None:
    assert search(TinyDecoder(words=5), make_features(0), DecodeConfig(name=name), SPECIAL_TOKENS) == []


@every_search
def test_searching_twice_gives_the_same_and_leaves_the_features_alone(name: str) -> None:
    features = make_features(5)
    before = features.vector.clone()
    decoder, config = TinyDecoder(words=9), DecodeConfig(name=name, seed=3)
    first = search(decoder, features, config, SPECIAL_TOKENS, n_best=2)
    torch.rand(7)  # the global random state has no influence
    assert search(decoder, features, config, SPECIAL_TOKENS, n_best=2) == first
    torch.testing.assert_close(features.vector, before, rtol=0, atol=0)


@every_search
def test_half_precision_logits_are_summed_in_single(name: str) -> None:
    table = (3 * torch.randn(2000, 2000)).bfloat16()
    exact = TableDecoder(table.double())
    features = make_features(3)
    for found in search(TableDecoder(table), features, DecodeConfig(name=name, max_length=4), SPECIAL_TOKENS):
        again = score_caption(exact, one_image(features, 0), found[0].tokens, found[0].finished)
        assert found[0].log_prob == pytest.approx(again.log_prob, abs=1e-4)


@every_search
def test_no_gradients_are_recorded(name: str) -> None:
    features = make_features(2)
    assert features.grid is not None
    tracked = ImageFeatures(features.vector.requires_grad_(), features.grid.requires_grad_())
    for found in search(TinyDecoder(words=6), tracked, DecodeConfig(name=name, min_length=1), SPECIAL_TOKENS):
        assert found[0].attention is not None
        assert not found[0].attention.requires_grad


@every_search
@pytest.mark.parametrize(
    ("cell", "model"), [(cell, model) for model in DECODERS for cell in DECODERS[model].choices["cell"]]
)
def test_every_decoder_of_the_package_can_be_searched(name: str, model: str, cell: str) -> None:
    settings = DECODERS[model](name=model, cell=cell, layers=2, embedding_dim=6, hidden_dim=8)
    decoder = build_decoder(settings, vocabulary_size=12, feature_dim=5).double().eval()
    assert isinstance(decoder, Decoder)
    with torch.no_grad():
        for weights in decoder.parameters():
            weights.mul_(3)  # so that images get different captions
    features, config = make_features(5), DecodeConfig(name=name, max_length=7, min_length=1)
    together = search(decoder, features, config, SPECIAL_TOKENS, n_best=3, image_ids=range(5))
    for image, found in enumerate(together):
        alone = search(decoder, one_image(features, image), config, SPECIAL_TOKENS, n_best=3, image_ids=[image])
        for one, other in zip(found, alone[0], strict=True):
            assert_same(one, other)
            again = score_caption(decoder, one_image(features, image), one.tokens, one.finished)
            assert one.log_prob == pytest.approx(again.log_prob, abs=1e-10)
