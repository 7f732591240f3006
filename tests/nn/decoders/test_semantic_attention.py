"""Semantic attention against its equations in NumPy, and its attributes against the published classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captioner.config import EncoderConfig
from captioner.config.attention_models import SemanticAttentionConfig
from captioner.errors import ConfigError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.semantic_attention import attention_penalty
from captioner.nn.encoders.efficientnet_lite import efficientnet_lite, weights_file, with_torchvision_keys
from captioner.nn.encoders.encoder_weights import read_state_dict
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures, repeat_rows, select_rows
from captioner.text.class_words import concepts
from captioner.text.vocabulary import Vocabulary
from tests.nn.decoders.decoder_checks import (
    CAPTIONS,
    D,
    V,
    check_gradients,
    check_that_decoding_step_by_step_equals_teacher_forcing,
    rows_of,
)
from tests.nn.equations import parameters, softmax, stack_step, states_of, word_logits

SMALL: dict[str, Any] = {"embedding_dim": 3, "hidden_dim": 4, "attributes": 3}
CONFIGS = [
    SemanticAttentionConfig(**SMALL),
    SemanticAttentionConfig(**SMALL, attribute_prior=0.0, tie_embeddings=False, attribute_sparsity=0.0),
    SemanticAttentionConfig(**{**SMALL, "attributes": 7}, cell="gru", layers=2, residual=True),
]


def name(config: SemanticAttentionConfig) -> str:
    return f"{config.cell}-{config.attributes}-{config.attribute_prior}"


every_kind = pytest.mark.parametrize("config", CONFIGS, ids=name)


def make(config: SemanticAttentionConfig) -> tuple[Any, ImageFeatures]:
    """A decoder in float64 whose classes stand for five of its words, and features of the shared captions' images."""
    torch.manual_seed(1)
    decoder: Any = build_decoder(config, V, D).double().eval()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    decoder.class_weight.normal_()
    decoder.class_bias.normal_()
    decoder.class_words[:, 0] = torch.randint(4, 9, (1000,))
    decoder.class_words[:500, 1] = 6
    return decoder, ImageFeatures(torch.randn(len(CAPTIONS), D, dtype=torch.float64))


def equations(decoder: Any, config: SemanticAttentionConfig, v: np.ndarray, words: list[int]) -> Any:
    """Logits (T, V), α and β (T, attributes)."""
    p = parameters(decoder)
    classes = softmax(p["class_weight"] @ v + p["class_bias"])
    chance = np.zeros(V)
    for number, of_class in enumerate(p["class_words"].astype(int)):
        for word in of_class:
            if word:
                chance[word] += classes[number]
    attributes = [word for word in np.argsort(-chance)[: config.attributes] if chance[word] > 0]
    e = p["embedding.weight"]
    prior = config.attribute_prior * np.log(chance[attributes])
    shown = np.array([p["show.weight"] @ np.tanh(e[word]) for word in attributes])
    hidden = [[np.zeros(config.hidden_dim)] * states_of(config.cell) for _ in range(config.layers)]
    rows, alphas, betas = [], [], []

    def read(x: np.ndarray) -> np.ndarray:
        nonlocal hidden
        gates = p["stack.inputs.0.weight"] @ x + p["stack.inputs.0.bias"]
        h, hidden = stack_step(config.cell, p, config.layers, gates, hidden, residual=config.residual)
        return h

    read(p["image.weight"] @ v)
    for word in words:
        alpha = softmax(prior + np.array([e[word] @ p["match.weight"] @ e[i] for i in attributes]))
        h = read(e[word] + p["input_scale"] * (alpha @ e[attributes]))
        beta = softmax(prior + shown @ h)
        rows.append(word_logits(p, h + p["output_scale"] * (beta @ shown)))
        alphas.append(alpha)
        betas.append(beta)
    return np.array(rows), np.array(alphas), np.array(betas)


def penalty(weights: np.ndarray) -> float:
    """g of one caption, eq. 11 with p = 2 and q = 1/2."""
    return float(np.sqrt((weights.sum(0) ** 2).sum()) + (np.sqrt(weights).sum(1) ** 2).sum())


@every_kind
def test_forward_is_the_equations(config: SemanticAttentionConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)
    output = decoder(features, packed)
    total = 0.0
    for (image, slot), logits in rows_of(packed, output.logits).items():
        words = [1, *CAPTIONS[image][slot]]
        expected, alpha, beta = equations(decoder, config, features.vector[image].numpy(), words)
        np.testing.assert_allclose(logits, expected, atol=1e-10)
        total += penalty(alpha) + penalty(beta)
    if config.attribute_sparsity:
        assert float(output.losses["attributes"].total.detach()) == pytest.approx(total, abs=1e-9)
    else:
        assert not output.losses


@every_kind
def test_decoding_step_by_step_equals_teacher_forcing(config: SemanticAttentionConfig) -> None:
    check_that_decoding_step_by_step_equals_teacher_forcing(*make(config))


@every_kind
def test_gradients_are_those_of_finite_differences(config: SemanticAttentionConfig) -> None:
    decoder, features = make(config)
    packed = pack_captions(CAPTIONS)

    def loss() -> Tensor:
        output = decoder(features, packed)
        own = sum((part.weight * part.total for part in output.losses.values()), torch.zeros(()))
        return nn.functional.cross_entropy(output.logits, packed.targets) + own

    check_gradients(decoder, loss)


def test_beams_of_an_image_share_its_attributes() -> None:
    decoder, features = make(CONFIGS[0])
    words = torch.tensor([4, 5, 6, 7, 8, 9])
    state = decoder.step(words, repeat_rows(decoder.init_state(features), 2)).state
    step = decoder.step(words.flip(0), select_rows(state, torch.tensor([1, 0, 3, 2, 5, 4])))
    for row in range(6):
        image = features.images(lambda tensor, row=row: tensor[row // 2][None])  # type: ignore[misc]
        alone = decoder.step(words[row ^ 1][None], decoder.init_state(image)).state
        expected = decoder.step(words.flip(0)[row][None], alone)
        torch.testing.assert_close(step.logits[row], expected.logits[0], atol=1e-10, rtol=0)


def test_without_known_words_the_image_is_all_it_has() -> None:
    """No class has a word in the vocabulary: attention adds nothing, and the penalty has a finite gradient."""
    decoder, features = make(CONFIGS[0])
    decoder.class_words.zero_()
    packed = pack_captions(CAPTIONS)
    before = decoder(features, packed).logits
    output = decoder(features, packed)
    output.losses["attributes"].total.backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in decoder.parameters())
    decoder.output_scale.data.fill_(100.0)
    torch.testing.assert_close(decoder(features, packed).logits, before, atol=0, rtol=0)


def test_one_attribute_has_the_least_penalty() -> None:
    packed = pack_captions([[[4, 5]]])
    one, even = torch.tensor([[1.0, 0.0]] * 3), torch.full((3, 2), 0.5)
    assert float(attention_penalty(one, packed)) == pytest.approx(3 + 3)
    assert float(attention_penalty(even, packed)) == pytest.approx(np.sqrt(2 * 1.5**2) + 3 * 2, abs=1e-6)


def test_attributes_are_the_words_of_the_published_classes() -> None:
    """By the whole published network: the mean of its last feature map, its classifier, and the table of words."""
    vocabulary = Vocabulary(["dogs", "dog", "cat", "bus", "pizza", "a"])
    config = SemanticAttentionConfig(embedding_dim=4, hidden_dim=4, attributes=3)
    decoder: Any = build_decoder(config, len(vocabulary), 1280)
    encoder = EncoderConfig(name="efficientnet_lite0")
    decoder.prepare_training(vocabulary, encoder)
    network = efficientnet_lite("efficientnet_lite0").eval()
    network.load_state_dict(
        with_torchvision_keys("efficientnet_lite0", read_state_dict(weights_file("efficientnet_lite0")))
    )
    torch.manual_seed(0)
    with torch.no_grad():
        maps = network.features(torch.randn(2, 3, 64, 64))
        classes = network.classifier(maps.mean((2, 3))).softmax(1)
    ids, found = decoder.attributes_of(maps.mean((2, 3)))
    tables = {concept.word: list(concept.classes) for concept in concepts()}
    for image in range(2):
        expected = {word: float(classes[image, tables[word]].sum()) for word in ("dog", "cat", "bus", "pizza")}
        best = sorted(expected, key=lambda word: -expected[word])[:3]
        assert vocabulary.decode(ids[image].tolist()) == best
        np.testing.assert_allclose(found[image].numpy(), [expected[word] for word in best], rtol=1e-4)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"name": "efficientnet_lite0", "weights": None}, r"published weights .* encoder\.weights=None has none"),
        ({"name": "efficientnet_lite0", "fine_tune_from": "features.6"}, r"fine_tune_from=features\.6 would change"),
        ({"name": "vgg16", "weights": "DEFAULT"}, r"that of vgg16 has more layers"),
    ],
)
def test_an_encoder_without_that_classifier_is_one_message(encoder: dict[str, Any], message: str) -> None:
    decoder = build_decoder(CONFIGS[0], V, D)
    with pytest.raises(ConfigError, match=message):
        decoder.prepare_training(Vocabulary(["dog"]), EncoderConfig(**encoder))
