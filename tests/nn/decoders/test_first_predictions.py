"""What the decoders of conf/model predict before training, and how far words and frequencies move them then."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from captioner.cli.choices import CONF
from captioner.cli.hydra_config import compose_train_settings
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
V, D, P = 1000, 30, 9
SMALL = ("model.embedding_dim=48", "model.hidden_dim=48")


def decoder_of(name: str, *options: str) -> Any:
    """The decoder of model=name with small layers, untrained."""
    settings = compose_train_settings([f"model={name}", "data.root=.", *SMALL, *options])
    return build_decoder(settings.model, V, D).eval()


def captions_and_counts() -> tuple[PackedCaptions, np.ndarray]:
    """Captions of words with frequencies like 1 / rank, and how often each token is to be predicted."""
    generator = np.random.default_rng(0)
    shares = 1 / np.arange(1, V - 3)
    shares /= shares.sum()
    captions = [
        [generator.choice(np.arange(4, V), generator.integers(3, 9), p=shares).tolist() for _ in range(5)]
        for _ in range(30)
    ]
    targets = [token for of_image in captions for caption in of_image for token in (*caption, 2)]
    return pack_captions(captions), np.bincount(targets, minlength=V)


def features() -> ImageFeatures:
    """Non-negative and sparse, as those of a convolutional network are."""
    grid = torch.relu(torch.randn(30, P, D, generator=torch.Generator().manual_seed(0)))
    return ImageFeatures(grid.mean(dim=1), grid, classes=torch.full((30, 1000), 0.001))


@pytest.mark.parametrize("name", MODELS)
def test_the_first_loss_is_the_entropy_of_the_word_frequencies(name: str) -> None:
    """Without `start_from_frequencies` it is log V: each word is as likely as any other."""
    torch.manual_seed(0)
    decoder = decoder_of(name)
    captions, counts = captions_and_counts()

    def loss() -> float:
        with torch.no_grad():
            return float(F.cross_entropy(decoder(features(), captions).logits, captions.targets))

    shares = counts[counts > 0] / counts.sum()
    entropy = -float((shares * np.log(shares)).sum())
    assert np.log(V) - entropy > 0.7  # they can be told apart
    assert loss() == pytest.approx(np.log(V), abs=0.25)
    decoder.start_from_frequencies(torch.from_numpy(1000 * counts))  # a large corpus: no share for what never occurs
    assert loss() == pytest.approx(entropy, abs=0.25)


@pytest.mark.parametrize("name", MODELS)
def test_frequencies_leave_nothing_constant_to_learn(name: str) -> None:
    """The gradient of the mean loss by the bias: what a constant output could gain. It is (nearly) zero then."""
    torch.manual_seed(0)
    decoder = decoder_of(name)
    captions, counts = captions_and_counts()

    def gradient() -> float:
        loss = F.cross_entropy(decoder(features(), captions).logits, captions.targets)
        (of_bias,) = torch.autograd.grad(loss, [decoder.output.words.bias])
        return float(of_bias.norm())

    before = gradient()
    decoder.start_from_frequencies(torch.from_numpy(1000 * counts))
    assert gradient() < before / 3


@pytest.mark.parametrize("name", ["rnn", "lstm", "attention", "adaptive_attention", "att2in", "updown", "aoa"])
def test_words_move_the_gates_by_about_one(name: str) -> None:
    """The standard deviation over words of what a word adds to the inputs of the first cell; 0.03 with U(−0.1, 0.1)."""
    torch.manual_seed(0)
    decoder = decoder_of(name, "model.tie_embeddings=false")
    stack = next(module for module in decoder.modules() if isinstance(module, RecurrentStack))
    words = stack.project(decoder.embedding.weight).detach()
    assert 0.4 < float(words.std(dim=0).mean()) < 1.5


@pytest.mark.parametrize("name", ["rnn", "lstm", "attention", "adaptive_attention", "att2in", "updown", "aoa"])
def test_an_embedding_that_is_the_output_weight_is_small(name: str) -> None:
    """So that the first logits are: with a unit hidden vector, far below log V."""
    torch.manual_seed(0)
    decoder = decoder_of(name, "model.tie_embeddings=true")
    assert float(decoder.embedding.weight.detach().abs().max()) < 0.1001
