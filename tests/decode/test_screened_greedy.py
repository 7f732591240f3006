"""Greedy search of one image with screened words against the loop that computes all logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from captioner.config import DECODERS, DecodeConfig
from captioner.decode import search
from captioner.decode.decoding_loop import run_decoding_loop
from captioner.decode.greedy import _most_probable, greedy
from captioner.decode.hypothesis import Hypothesis
from captioner.decode.screened_greedy import screened_greedy
from captioner.errors import CaptionerError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.layers.output import WordOutput, without_words
from captioner.nn.types import ImageFeatures
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import END, TinyDecoder, make_features
from tests.nn.layers.compiled import needs_compiler
from tests.nn.layers.screening import screen_everything

pytestmark = needs_compiler
V, D = 60, 6
SETTINGS: list[dict[str, Any]] = [
    {"max_length": 12},
    {"max_length": 12, "min_length": 12, "allow_unknown": True},
    {"max_length": 9, "min_length": 4, "no_repeat_ngram": 2, "length_penalty": 1.0},
    {"max_length": 9, "no_repeat_ngram": 1},
    {"max_length": 1},
]


@pytest.fixture(autouse=True)
def _screens_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    screen_everything(monkeypatch)


def one_photo(seed: int) -> ImageFeatures:
    grid = torch.randn(1, 4, D, generator=torch.Generator().manual_seed(seed))
    return ImageFeatures(grid.mean(dim=1), grid, seeds=torch.tensor([seed]))


def decoder_of(name: str, seed: int, **settings: Any) -> Decoder[Any]:
    torch.manual_seed(seed)
    config = DECODERS[name](name=name, embedding_dim=8, hidden_dim=8, dropout=0.0, **settings)
    decoder = build_decoder(config, V, D).eval()
    with torch.no_grad():
        for weights in decoder.parameters():  # sharper than at the start of a training, so that words differ
            weights.mul_(2.0).add_(0.1 * torch.randn(weights.shape))
    return decoder


def plain(
    decoder: Decoder[Any], features: ImageFeatures, config: DecodeConfig, phrases: PhraseStatistics | None = None
) -> Hypothesis:
    (found,) = run_decoding_loop(decoder, features, config, SPECIAL_TOKENS, _most_probable, phrases)
    return found


def assert_close(found: Hypothesis | None, expected: Hypothesis) -> None:
    assert found is not None
    assert (found.tokens, found.finished) == (expected.tokens, expected.finished)
    assert found.log_prob == pytest.approx(expected.log_prob, abs=1e-4)
    assert found.score == pytest.approx(expected.score, abs=1e-4)
    assert (found.attention is None) == (expected.attention is None)
    if expected.attention is not None:
        torch.testing.assert_close(found.attention, expected.attention, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", DECODERS)
def test_every_captioner_says_the_same(name: str) -> None:
    lengths = set()
    for seed, tied in ((0, False), (1, True)):
        decoder, features = decoder_of(name, seed, tie_embeddings=tied), one_photo(seed)
        for settings in SETTINGS:
            config = DecodeConfig(name="greedy", **settings)
            expected = plain(decoder, features, config)
            assert_close(screened_greedy(decoder, features, config, SPECIAL_TOKENS), expected)
            assert_close(greedy(decoder, features, config, SPECIAL_TOKENS)[0], expected)
            lengths.add(len(expected.tokens))
    assert len(lengths) > 2


def test_nearly_equal_words() -> None:
    """Every word has a twin: the same, or so like it that 8 bits do not tell them apart."""
    for seed in range(5):
        decoder, features = decoder_of("attention", seed), one_photo(seed)
        output = decoder.output
        assert isinstance(output, WordOutput)
        with torch.no_grad():
            twins = output.words.weight[:30] * (1 + 1e-4 * torch.randn(30, 1).round())
            output.words.weight[30:] = twins
            output.words.bias[30:] = output.words.bias[:30]
        config = DecodeConfig(name="greedy", max_length=12)
        assert_close(screened_greedy(decoder, features, config, SPECIAL_TOKENS), plain(decoder, features, config))


@pytest.mark.parametrize("kind", ["no_unseen_phrase", "no_doubled_phrase", "no_bad_ending"])
def test_with_guards(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    captions = torch.randint(4, V, (400, 8), generator=generator).tolist()
    phrases = PhraseStatistics.from_captions(captions, END)
    config = DecodeConfig(name="greedy", max_length=9, **{kind: True})
    for seed in range(5):
        decoder, features = decoder_of("recurrent", seed), one_photo(seed)
        expected = plain(decoder, features, config, phrases)
        assert_close(screened_greedy(decoder, features, config, SPECIAL_TOKENS, phrases), expected)


def test_where_no_word_is_allowed() -> None:
    decoder, features = decoder_of("attention", 0), one_photo(0)
    output = decoder.output
    assert isinstance(output, WordOutput)
    for possible in (SPECIAL_TOKENS.pad, END):
        with torch.no_grad():
            output.words.bias.fill_(float("-inf"))
            output.words.bias[possible] = 0.0
        for settings in SETTINGS:
            config = DecodeConfig(name="greedy", **settings)
            expected = plain(decoder, features, config)
            assert_close(screened_greedy(decoder, features, config, SPECIAL_TOKENS), expected)
            assert (expected.tokens, expected.finished) == ((), possible == END)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_numbers(value: float) -> None:
    config = DecodeConfig(name="greedy")
    decoder, features = decoder_of("attention", 0), one_photo(0)
    assert features.grid is not None
    features.grid[0, 1, 2] = value
    message = r"image 0 .* at word 1 are not numbers"
    with pytest.raises(CaptionerError, match=message) as error:
        plain(decoder, features, config)
    with pytest.raises(CaptionerError, match=message) as screened:
        screened_greedy(decoder, features, config, SPECIAL_TOKENS)
    assert str(screened.value) == str(error.value)


def test_what_is_searched_with_all_logits() -> None:
    """Several images, a repetition penalty, float64, and a decoder that does not say that it returns its output."""
    decoder, features, config = decoder_of("attention", 0), one_photo(0), DecodeConfig(name="greedy")
    two = ImageFeatures(features.vector.repeat(2, 1), torch.cat([features.grid] * 2))  # type: ignore[list-item]
    assert screened_greedy(decoder, two, config, SPECIAL_TOKENS) is None
    penalized = DecodeConfig(name="greedy", repetition_penalty=1.5)
    assert screened_greedy(decoder, features, penalized, SPECIAL_TOKENS) is None
    assert screened_greedy(TinyDecoder(words=9), make_features(1), config, SPECIAL_TOKENS) is None
    wide = ImageFeatures(features.vector.double(), features.grid.double())  # type: ignore[union-attr]
    assert screened_greedy(decoder_of("attention", 0).double(), wide, config, SPECIAL_TOKENS) is None
    ((found,),) = search(decoder, features, penalized, SPECIAL_TOKENS)
    assert_close(found, plain(decoder, features, penalized))


@torch.inference_mode()
def test_only_the_layer_that_is_named_leaves_out_its_product() -> None:
    one, other = (decoder_of("attention", seed).output for seed in (0, 1))
    assert isinstance(one, WordOutput)
    assert isinstance(other, WordOutput)
    hidden = torch.randn(1, 8)
    with without_words(one):
        vectors: Tensor = one(hidden)
        assert other(hidden).shape == (1, V)
    torch.testing.assert_close(one.words(vectors), one(hidden))
