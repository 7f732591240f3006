"""Log-probabilities of given captions against the steps of the decoder, the searches, and the sum of all captions."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from captioner.config import DECODERS, AttentionConfig, DecodeConfig
from captioner.decode import search, teacher_forcing
from captioner.decode.sampling import image_seeds
from captioner.decode.teacher_forcing import TokenLogProbs, token_log_probs
from captioner.errors import CaptionerError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS
from tests.decode.decoders import END, TableDecoder, TinyDecoder, make_features, one_image

VOCABULARY = 12
HARD = {how: AttentionConfig(name=how, attention="hard", hard_at_test=how) for how in ("expected", "sample")}


def decoder_named(name: str) -> Decoder[object]:
    settings = HARD[name] if name in HARD else DECODERS[name](name=name)
    for key, value in {"embedding_dim": 6, "hidden_dim": 8, "layers": 2}.items():
        setattr(settings, key, value)
    torch.manual_seed(0)
    decoder = build_decoder(settings, vocabulary_size=VOCABULARY, feature_dim=5).double().eval()
    # So that images get different captions. Three times the gains of two layer norms enlarge rounding 10^5 times.
    factor = 1.5 if name == "aoa" else 3.0
    with torch.no_grad():
        for weights in decoder.parameters():
            weights.mul_(factor)
    return decoder


def some_captions(images: int, seed: int = 0) -> list[list[list[int]]]:
    """Captions of different lengths and numbers: one image has none, one caption has no word."""
    chosen = random.Random(seed)
    captions = [
        [[chosen.randrange(3, VOCABULARY) for _ in range(chosen.randrange(1, 9))] for _ in range(chosen.randrange(4))]
        for _ in range(images)
    ]
    captions[0] = [[], [4, 5]]
    captions[1] = []
    return captions


def by_hand(decoder: Decoder[object], features: ImageFeatures, caption: list[int]) -> tuple[list[float], list[int]]:
    """Step by step for one image: log p of each token and <END>, and its place in the sorted vocabulary."""
    log_probs, ranks = [], []
    with torch.no_grad():
        state = decoder.init_state(features)
    for previous, token in itertools.pairwise([SPECIAL_TOKENS.start, *caption, END]):
        with torch.no_grad():
            logits, state, _ = decoder.step(torch.tensor([previous]), state)
        values = logits[0].tolist()
        log_probs.append(values[token] - math.log(math.fsum(map(math.exp, values))))
        ranks.append(sorted(values, reverse=True).index(values[token]) + 1)
    return log_probs, ranks


@pytest.mark.parametrize("name", [*DECODERS, *HARD])
@pytest.mark.parametrize("small_passes", [False, True])
def test_every_decoder_equals_its_own_steps(name: str, small_passes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if small_passes:  # passes that cut images apart, and captions longer than a pass
        monkeypatch.setattr(teacher_forcing, "LOGITS_PER_PASS", 7 * VOCABULARY)
    decoder, features, captions = decoder_named(name), make_features(5), some_captions(5)
    features = features._replace(seeds=image_seeds(0, range(5)))
    scored = list(token_log_probs(decoder, features, captions, VOCABULARY, with_ranks=True))
    places = [(image, index) for image, of_image in enumerate(captions) for index in range(len(of_image))]
    assert [one[:2] for one in scored] == places
    assert features.seeds is not None
    for image, index, tokens in scored:
        alone = one_image(features, image)._replace(seeds=features.seeds[image : image + 1])
        log_probs, ranks = by_hand(decoder, alone, captions[image][index])
        assert tokens.log_probs.tolist() == pytest.approx(log_probs, abs=1e-10)
        assert tokens.ranks is not None
        assert tokens.ranks.tolist() == ranks
        assert tokens.total == pytest.approx(math.fsum(log_probs), abs=1e-10)


@pytest.mark.parametrize("name", [*DECODERS, *HARD])
@pytest.mark.parametrize("decode", ["greedy", "beam", "sample"])
def test_a_search_gives_its_captions_the_same_log_probability(name: str, decode: str) -> None:
    decoder, features = decoder_named(name), make_features(6)
    config = DecodeConfig(name=decode, max_length=9, temperature=2.0, length_penalty=0.7, seed=3)
    found = search(decoder, features, config, SPECIAL_TOKENS, n_best=3, image_ids=list("abcdef"))
    captions = [[list(one.tokens) for one in of_image] for of_image in found]
    seeded = features._replace(seeds=image_seeds(3, list("abcdef")))
    for image, index, tokens in token_log_probs(decoder, seeded, captions, VOCABULARY):
        one = found[image][index]  # a caption that was cut has no <END>
        total = tokens.total if one.finished else float(tokens.log_probs[:-1].sum())
        assert total == pytest.approx(one.log_prob, abs=1e-10)


@pytest.mark.parametrize("longest", [0, 1, 3])
def test_all_captions_have_probability_one_together(longest: int) -> None:
    """Those of up to n tokens, and the probability of not having ended by then."""
    decoder, features = TinyDecoder(words=1, sharpness=0.5), make_features(2)
    size = 5
    words = [token for token in range(size) if token != END]
    captions = [list(one) for n in range(longest + 1) for one in itertools.product(words, repeat=n)]
    unended = [list(one) for one in itertools.product(words, repeat=longest + 1)]
    total = [0.0, 0.0]
    for image, _, tokens in token_log_probs(decoder, features, [captions, captions], size):
        total[image] += math.exp(tokens.total)
    assert all(0.01 < ended < 0.99 for ended in total)
    for image, _, tokens in token_log_probs(decoder, features, [unended, unended], size):
        total[image] += math.exp(float(tokens.log_probs[:-1].sum()))
    assert total == pytest.approx([1.0, 1.0], abs=1e-12)


def test_equal_logits_share_the_best_rank() -> None:
    decoder = TableDecoder(torch.tensor([0.0, 0.0, 2.0, 1.0, 1.0], dtype=torch.float64).expand(5, -1))
    ((_, _, tokens),) = token_log_probs(decoder, make_features(1), [[[4, 3, 0]]], 5, with_ranks=True)
    assert tokens.ranks is not None
    assert tokens.ranks.tolist() == [2, 2, 4, 1]


def test_half_precision_is_summed_in_more() -> None:
    """600 equal tokens: the float16 sum of their exponentials would be off by percents."""
    decoder = TableDecoder(torch.zeros(600, 600, dtype=torch.bfloat16))
    ((_, _, tokens),) = token_log_probs(decoder, make_features(1), [[[5] * 3]], 600)
    assert tokens == TokenLogProbs(tokens.log_probs, None)
    assert tokens.log_probs.tolist() == pytest.approx([-math.log(600)] * 4, abs=1e-5)


def test_nan_is_an_error_and_not_a_score() -> None:
    decoder = TableDecoder(torch.full((5, 5), float("nan"), dtype=torch.float64))
    with pytest.raises(CaptionerError, match="not numbers"):
        list(token_log_probs(decoder, make_features(1), [[[4]]], 5))
