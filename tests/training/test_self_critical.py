"""Self-critical training: the gradient estimate, on a problem small enough to enumerate every caption."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captioner.config import AttentionConfig, MeteorConfig, OptimConfig, RewardConfig, TrainConfig
from captioner.data.token_ids import EncodedCaptions
from captioner.decode.sampling import SampledCaption
from captioner.errors import ConfigError
from captioner.metrics import BleuReward, score
from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor.meteor_metric import evaluate
from captioner.metrics.meteor_reward import MeteorReward
from captioner.metrics.ngrams import Floats
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from captioner.training import loop as training
from captioner.training import self_critical, structure_losses
from captioner.training import setup as training_setup
from captioner.training.anchor import Anchor
from captioner.training.logs import read_records
from captioner.training.phases import CROSS_ENTROPY, SELF_CRITICAL, plan_phases
from captioner.training.self_critical import caption_reward, meteor_reward, self_critical_losses
from captioner.training.setup import begin_epoch, prepare
from captioner.training.step import micro_batch_losses, training_batches
from tests.metrics.meteor.small import WORDS as SMALL_WORDS
from tests.metrics.meteor.small import small_meteor
from tests.tiny import tiny_config, with_trainer, write_tiny_data
from tests.training.test_loop import assert_resumes_as, run

WORDS, LONGEST, D = (4, 5), 2, 4
EVERY_CAPTION = [
    SampledCaption(words, finished)
    for length in range(LONGEST + 1)
    for words in itertools.product(WORDS, repeat=length)
    for finished in ([True, False] if length == LONGEST else [True])
]


def made_up_reward(images: Sequence[int], captions: Sequence[Sequence[int]]) -> Floats:
    """An arbitrary function of image and caption, with <END>."""
    return np.array([(7 * image + sum(3**i * word for i, word in enumerate(words))) % 11 / 3
                     for image, words in zip(images, captions, strict=True)])  # fmt: skip


class Model(nn.Module):
    """A decoder with six tokens, of which it can generate two and <END>."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        config = AttentionConfig(embedding_dim=3, hidden_dim=4, attention_dim=3, dropout=0.5)
        self.decoder = build_decoder(config, 6, D).double()
        for parameter in self.decoder.parameters():
            nn.init.normal_(parameter, std=0.7)
        self.features = ImageFeatures(torch.randn(1, D).double(), torch.randn(1, 2, D).double())

    def forward(self, features: ImageFeatures, captions: object) -> object:
        return self.decoder(features, captions)

    def probability(self, caption: SampledCaption) -> Tensor:
        """The probability of a caption, as the product over its steps."""
        state, token, product = self.decoder.init_state(self.features), SPECIAL_TOKENS.start, torch.ones(()).double()
        for word in (*caption.tokens, SPECIAL_TOKENS.end):
            step = self.decoder.step(torch.tensor([token]), state)
            kept = step.logits[0, [SPECIAL_TOKENS.end, *WORDS]].softmax(dim=0)
            state, token = step.state, word
            chosen = kept[[SPECIAL_TOKENS.end, *WORDS].index(word)]
            product = product * (1 - chosen if word == SPECIAL_TOKENS.end and not caption.finished else chosen)
        return product


def gradient(model: Model, value: Tensor) -> Tensor:
    parts = torch.autograd.grad(value, list(model.decoder.parameters()), allow_unused=True)
    return torch.cat([
        (torch.zeros_like(p) if part is None else part).flatten()
        for p, part in zip(model.decoder.parameters(), parts, strict=True)
    ])  # fmt: skip


@pytest.fixture(scope="module")
def meteor(tmp_path_factory: pytest.TempPathFactory) -> MeteorReward:
    """METEOR of captions whose ids from 4 on are the words of `small.WORDS`."""
    references = {0: ["the cat of the dog", "a kitten"], 1: ["wolf"]}
    return MeteorReward(
        small_meteor(tmp_path_factory.mktemp("meteor")),
        references,
        lambda ids: [SMALL_WORDS[token - 4] for token in ids if token != SPECIAL_TOKENS.end],
    )


@pytest.mark.parametrize("name", ["made up", "CIDEr-D, BLEU-4 and METEOR"])
def test_the_estimate_is_unbiased(monkeypatch: pytest.MonkeyPatch, meteor: MeteorReward, name: str) -> None:
    """Its mean over all pairs of captions, weighted by their probabilities, is the gradient of the expected reward.

    Exactly, and in training mode too: with dropout, or with forbidden tokens in the probabilities, it would differ.
    """
    model = Model().eval()
    probabilities = [model.probability(one) for one in EVERY_CAPTION]
    model.train()
    assert float(torch.stack(probabilities).sum().detach()) == pytest.approx(1)
    heard = [(*one.tokens, SPECIAL_TOKENS.end) if one.finished else one.tokens for one in EVERY_CAPTION]
    reward = made_up_reward
    if name != "made up":
        reward = caption_reward(
            EncodedCaptions.from_lists([[[4, 5], [5]], [[4, 6]]]), range(2), 2.0, meteor=(3.0, meteor)
        )
    rewards = torch.from_numpy(reward([0] * len(EVERY_CAPTION), heard))
    assert len(set(rewards.tolist())) > 3
    expected = (torch.stack(probabilities) * rewards).sum()
    found: Tensor = torch.zeros(())
    mean_loss = 0.0
    for first, second in itertools.product(range(len(EVERY_CAPTION)), repeat=2):
        pair = [EVERY_CAPTION[first], EVERY_CAPTION[second]]
        monkeypatch.setattr(self_critical, "sample_captions", lambda *_, pair=pair, **__: [pair])
        losses = self_critical_losses(
            model,
            model.features,
            [0],
            reward,
            config=RewardConfig(samples=2),
            max_length=LONGEST,
            seed=0,
            images=1,  # type: ignore[arg-type]
        )
        weight = float((probabilities[first] * probabilities[second]).detach())
        found = found + weight * gradient(model, losses["loss"])
        mean_loss += weight * float(losses["loss"].detach())
    assert model.training
    assert mean_loss == pytest.approx(-float(expected.detach()))
    torch.testing.assert_close(found, -gradient(model, expected), rtol=1e-9, atol=1e-12)


def losses_of(
    model: Model, captions: list[SampledCaption], monkeypatch: pytest.MonkeyPatch, **settings: object
) -> Tensor:
    """The loss of these captions of one image."""
    monkeypatch.setattr(self_critical, "sample_captions", lambda *_, **__: [captions])
    config = RewardConfig(samples=max(len(captions), 2), **settings)  # type: ignore[arg-type]
    losses = self_critical_losses(
        model,  # type: ignore[arg-type]
        model.features,
        [0],
        made_up_reward,
        config=replace(config, samples=len(captions)) if config.baseline == "greedy" else config,
        max_length=LONGEST,
        seed=0,
        images=1,
    )
    return losses["loss"]


def heard(captions: Sequence[SampledCaption]) -> list[tuple[int, ...]]:
    return [(*one.tokens, SPECIAL_TOKENS.end) if one.finished else one.tokens for one in captions]


def test_the_estimate_with_a_greedy_baseline_is_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one sample per image; and one with the reward of the greedy caption has no gradient."""
    model = Model().eval()
    probabilities = [model.probability(one) for one in EVERY_CAPTION]
    model.train()
    rewards = torch.from_numpy(made_up_reward([0] * len(EVERY_CAPTION), heard(EVERY_CAPTION)))
    expected = gradient(model, -(torch.stack(probabilities) * rewards).sum())
    found: Tensor = torch.zeros(())
    without = []
    for one, probability in zip(EVERY_CAPTION, probabilities, strict=True):
        slope = gradient(model, losses_of(model, [one], monkeypatch, baseline="greedy"))
        found = found + float(probability.detach()) * slope
        if not slope.any():
            without.append(made_up_reward([0], heard([one]))[0])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    token, state, greedy = SPECIAL_TOKENS.start, model.eval().decoder.init_state(model.features), []
    while len(greedy) < LONGEST:
        step = model.decoder.step(torch.tensor([token]), state)
        choices = [SPECIAL_TOKENS.end, *WORDS]
        state, token = step.state, choices[int(step.logits[0, choices].argmax())]
        if token == SPECIAL_TOKENS.end:
            break
        greedy.append(token)
    finished = (*greedy, SPECIAL_TOKENS.end) if token == SPECIAL_TOKENS.end else tuple(greedy)
    assert set(without) == {made_up_reward([0], [finished])[0]}


@pytest.mark.parametrize("sharpness", [0.005, 1.0, 2.5])
def test_minimum_risk_is_the_expected_reward_over_the_captions(
    monkeypatch: pytest.MonkeyPatch, sharpness: float
) -> None:
    """Equations 7 to 9 of Shen et al. (2016), from the probabilities of whole captions; a repeated one counts once."""
    model = Model().eval()
    captions = [EVERY_CAPTION[index] for index in (1, 5, 1, 0, 6)]
    different = [captions[index] for index in (0, 1, 3, 4)]
    powers = torch.stack([model.probability(one) for one in different]) ** sharpness
    rewards = torch.from_numpy(made_up_reward([0] * 4, heard(different)))
    expected = -(powers / powers.sum() * rewards).sum()
    model.train()
    found = losses_of(model, captions, monkeypatch, method="minimum_risk", sharpness=sharpness)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    torch.testing.assert_close(gradient(model, found), gradient(model, expected), rtol=1e-9, atol=1e-12)


def test_minimum_risk_of_every_caption_is_the_expected_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model().eval()
    rewards = torch.from_numpy(made_up_reward([0] * len(EVERY_CAPTION), heard(EVERY_CAPTION)))
    expected = -(torch.stack([model.probability(one) for one in EVERY_CAPTION]) * rewards).sum()
    found = losses_of(model, EVERY_CAPTION, monkeypatch, method="minimum_risk")
    torch.testing.assert_close(found.detach(), expected.detach())
    torch.testing.assert_close(gradient(model, found), gradient(model, expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sharpness", [0.3, 1.0])
@pytest.mark.parametrize("method", ["max_margin", "best_of_n"])
@pytest.mark.parametrize("places", [(1, 5, 1, 0, 6), (0, 0, 0), (6, 2, 3)])
def test_margin_and_best_of_n_are_their_equations(
    monkeypatch: pytest.MonkeyPatch, method: str, sharpness: float, places: tuple[int, ...]
) -> None:
    """Edunov et al. (2018), equations 5 and 3, by loops over the different captions; gradient by differences."""
    model = Model().eval()
    captions = [EVERY_CAPTION[place] for place in places]
    different = list(dict.fromkeys(captions))
    rewards = made_up_reward([0] * len(different), heard(different)).tolist()

    def by_loops() -> float:
        scores = [sharpness * float(np.log(float(model.probability(one).detach()))) for one in different]
        best = max(range(len(different)), key=lambda k: rewards[k])
        likeliest = max(range(len(different)), key=lambda k: scores[k])
        if method == "max_margin":
            return max(0.0, rewards[best] - rewards[likeliest] - scores[best] + scores[likeliest])
        return float(-scores[best] + np.log(np.exp(scores).sum()))

    found = losses_of(model, captions, monkeypatch, method=method, sharpness=sharpness)
    assert float(found.detach()) == pytest.approx(by_loops(), rel=1e-10, abs=1e-12)
    weight = model.decoder.output.bias if hasattr(model.decoder.output, "bias") else next(model.decoder.parameters())
    (slopes,) = torch.autograd.grad(found, [weight])
    place = int(slopes.abs().argmax())
    values = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            weight.view(-1)[place] += step
            values.append(by_loops())
    assert float(slopes.view(-1)[place]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4, abs=1e-6)


def test_the_candidates_of_a_beam(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the most probable captions, once each, without a sample."""
    model = Model()
    seen: list[list[SampledCaption]] = []
    monkeypatch.setattr(self_critical, "sample_captions", None)
    monkeypatch.setattr(
        self_critical, "repeated", lambda captions: (seen.extend(captions), structure_losses.repeated(captions))[1]
    )
    config = RewardConfig(method="minimum_risk", candidates="beam", samples=4)
    self_critical_losses(
        model,  # type: ignore[arg-type]
        model.features,
        [0],
        made_up_reward,
        config=config,
        max_length=1,
        seed=0,
        images=1,
    )
    assert len(seen[0]) == len({*seen[0]}) == 3  # all that there are: <END>, and two words
    assert {one.tokens for one in seen[0]} == {(), (4,), (5,)}


def test_the_divergence_from_the_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the definition, in NumPy, from the probabilities of each step; its gradient by finite differences."""
    model, other = Model().eval(), Model().eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    anchor = Anchor(other.decoder)
    before = [parameter.clone() for parameter in anchor.decoder.parameters()]
    captions = [SampledCaption((4, 5), True), SampledCaption((5, 5), False), SampledCaption((), True)]
    monkeypatch.setattr(self_critical, "sample_captions", lambda *_, **__: [captions])

    def losses(weight: float) -> dict[str, Tensor]:
        return self_critical_losses(
            model,  # type: ignore[arg-type]
            model.features,
            [0],
            made_up_reward,
            config=RewardConfig(samples=3, kl_weight=weight),
            max_length=LONGEST,
            seed=0,
            images=2,
            anchor=anchor if weight else None,
        )

    def steps(decoder: nn.Module, words: Sequence[int]) -> list[Floats]:
        state, found = decoder.init_state(model.features), []  # type: ignore[operator]
        for word in (SPECIAL_TOKENS.start, *words):
            step = decoder.step(torch.tensor([word]), state)  # type: ignore[operator]
            exponents = np.exp(step.logits[0, [SPECIAL_TOKENS.end, *WORDS]].detach().numpy())
            found.append(exponents / exponents.sum())
            state = step.state
        return found

    def by_definition() -> float:
        total = 0.0
        for caption in captions:
            pairs = zip(steps(model.decoder, caption.tokens), steps(other.decoder, caption.tokens), strict=True)
            total += sum(float((p * np.log(p / q)).sum()) for p, q in pairs)
        return total / (2 * 3)

    found, plain = losses(0.7), losses(0.0)
    assert "kl" not in plain
    assert float(found["kl"]) == pytest.approx(by_definition(), rel=1e-9)
    assert float(found["loss"].detach()) == pytest.approx(float(plain["loss"].detach()) + 0.7 * by_definition())
    slope = gradient(model, found["loss"]) - gradient(model, plain["loss"])
    parameters = list(model.decoder.parameters())
    direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = []
    for scale in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, part in zip(parameters, direction.split([p.numel() for p in parameters]), strict=True):
                parameter += scale * part.view_as(parameter)
        values.append(by_definition())
    assert float(slope @ direction) == pytest.approx(0.7 * (values[0] - values[1]) / 2e-6, rel=1e-5)
    assert all(map(torch.equal, before, anchor.decoder.parameters()))


def test_captions_are_sampled_by_their_probabilities() -> None:
    """Their frequencies match (Pearson's statistic)."""
    model, count = Model().eval(), 4000
    drawn = self_critical.sample_captions(
        model.decoder, model.features, SPECIAL_TOKENS, count=count, max_length=LONGEST, seed=3, image_ids=["a"]
    )[0]
    expected = [count * float(model.probability(one).detach()) for one in EVERY_CAPTION]
    statistic = sum((drawn.count(one) - e) ** 2 / e for one, e in zip(EVERY_CAPTION, expected, strict=True))
    outcomes = len(EVERY_CAPTION)
    assert set(drawn) <= set(EVERY_CAPTION)
    assert statistic < outcomes + 5 * (2 * outcomes) ** 0.5


def test_the_samples_of_an_image_do_not_depend_on_the_batch() -> None:
    model = Model().eval()
    grid = torch.randn(3, 2, D).double()
    features = ImageFeatures(grid.mean(1), grid)

    def sample(rows: list[int]) -> list[list[SampledCaption]]:
        some = ImageFeatures(features.vector[rows], grid[rows])
        return self_critical.sample_captions(
            model.decoder, some, SPECIAL_TOKENS, count=5, max_length=6, seed=0, image_ids=rows
        )

    together = sample([0, 1, 2])
    assert [sample([row])[0] for row in range(3)] == together
    assert sample([2, 0]) == [together[2], together[0]]
    assert len(set(together[0])) > 1


def test_the_reward_is_cider_d() -> None:
    """As our corpus scorer computes it for the whole set, with <END> as a word of each caption."""
    captions = [[[4, 5, 6], [4, 6]], [[5, 5, 7]], [[8, 4], [7, 6, 5, 4]]]
    generated = [[4, 5], [5, 7, 7], [8, 4]]

    def text(words: Sequence[int]) -> str:
        return " ".join(f"w{word}" for word in (*words, SPECIAL_TOKENS.end))

    expected = score(
        dict(enumerate(map(text, generated))),
        {index: list(map(text, own)) for index, own in enumerate(captions)},
        names=["CIDEr"],
    ).per_image
    reward = caption_reward(EncodedCaptions.from_lists(captions), range(3))
    found = reward(range(3), [(*words, SPECIAL_TOKENS.end) for words in generated])
    assert found == pytest.approx([own["CIDEr"] for own in expected.values()], rel=1e-9)


def test_bleu_is_added_by_its_weight() -> None:
    captions = EncodedCaptions.from_lists([[[4, 5, 6], [4, 6]], [[5, 5, 7]]])
    images, generated = [0, 1, 1], [[4, 5, SPECIAL_TOKENS.end], [5, 7], [5, 5, 7, SPECIAL_TOKENS.end]]
    found = caption_reward(captions, range(2), bleu=2.0)(images, generated)
    end = (SPECIAL_TOKENS.end,)
    bleu_4 = BleuReward({0: [(4, 5, 6, *end), (4, 6, *end)], 1: [(5, 5, 7, *end)]})(images, generated)
    assert found == pytest.approx(caption_reward(captions, range(2))(images, generated) + 2 * bleu_4, rel=1e-12)
    assert bleu_4[2] == pytest.approx(1)
    assert 0 < bleu_4[1] < bleu_4[0] < 1


def test_an_implausible_caption_costs_fluency() -> None:
    """4 stands between 5 and 6 a thousand times, and never alone or at the end."""
    captions = EncodedCaptions.from_lists([[[5, 4, 6, 7]] * 500, [[5, 4, 6]] * 500])
    end = SPECIAL_TOKENS.end
    generated = [[5, 4, 6, 7, end], [5, 4, end], [5, 4], [5, 5, 4, 6, end], [5, 4, 6, end], [end]]
    broken = [0, 1, 1, 1, 0, 1]
    images = [0, 1, 1, 0, 1, 0]
    plain = caption_reward(captions, range(2), bleu=0.5)(images, generated)
    found = caption_reward(captions, range(2), bleu=0.5, fluency=1.5)(images, generated)
    assert found == pytest.approx(plain - 1.5 * np.array(broken), abs=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.7, 3.0])
def test_the_gradient_has_that_of_cross_entropy_by_its_weight(
    config: TrainConfig, tmp_path: Path, weight: float
) -> None:
    """With the same dropout: both parts are computed alone, and by finite differences of the cross-entropy."""
    config = replace(config, reward=replace(config.reward, cross_entropy_weight=weight))
    prepared = prepare(config, tmp_path)
    prepared.progress.step, prepared.progress.epoch = 6, 2
    assert begin_epoch(prepared)
    model = prepared.model.double()
    batch = next(training_batches(prepared))
    micro_batch = next(batch.micro_batches)
    micro_batch = micro_batch._replace(features=micro_batch.features.images(lambda part: part.double()))
    parameters = list(model.decoder.parameters())

    def losses(objective: str, share: float) -> dict[str, Tensor]:
        phase = replace(prepared.phase, objective=objective)
        reward = replace(config.reward, cross_entropy_weight=share)
        changed = replace(prepared, phase=phase, config=replace(config, reward=reward))
        model.train()
        torch.manual_seed(7)
        return micro_batch_losses(changed, micro_batch, batch.totals)

    def slopes(loss: Tensor) -> list[Tensor]:
        return [
            part.detach() for part in torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        ]

    mixed, rewarded, of_references = losses(SELF_CRITICAL, weight), losses(SELF_CRITICAL, 0), losses(CROSS_ENTROPY, 0)
    assert mixed["reward"] == rewarded["reward"]
    total = rewarded["loss"] + weight * of_references["loss"]
    torch.testing.assert_close(mixed["loss"].detach(), total.detach(), rtol=1e-12, atol=0)
    assert ("words" in mixed) == (weight > 0)
    if weight:
        torch.testing.assert_close(mixed["words"], of_references["words"], rtol=1e-12, atol=0)
    towards_references = slopes(of_references["loss"])
    parts = zip(slopes(mixed["loss"]), slopes(rewarded["loss"]), towards_references, strict=True)
    for whole, first, second in parts:
        torch.testing.assert_close(whole, first + weight * second, rtol=1e-9, atol=1e-12)
    # One direction by central differences: the reward's part of the loss is constant, the samples are the same.
    torch.manual_seed(0)
    direction = [torch.randn_like(parameter) for parameter in parameters]
    expected = sum(float((a * d).sum()) for a, d in zip(towards_references, direction, strict=True))
    step = 1e-6
    values = []
    for sign in (1, -2, 1):
        with torch.no_grad():
            for parameter, along in zip(parameters, direction, strict=True):
                parameter += sign * step * along
        values.append(float(losses(CROSS_ENTROPY, 0)["loss"].detach()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(expected, rel=1e-5)


def test_the_length_is_that_of_the_references() -> None:
    """Words without <END>, against the mean of the image's references: (3 + 2) / 2 and 3."""
    captions = EncodedCaptions.from_lists([[[4, 5, 6], [4, 6]], [[5, 5, 7]]])
    end = SPECIAL_TOKENS.end
    images, generated = [0, 0, 1, 1], [[4, 5, end], [4, 5, 6, 4, 4], [end], [5, 5, 7, end]]
    plain = caption_reward(captions, range(2))(images, generated)
    found = caption_reward(captions, range(2), length=0.5)(images, generated)
    assert found == pytest.approx(plain - 0.5 * np.array([0.5, 2.5, 3, 0]), abs=1e-12)


def test_meteor_is_added_by_its_weight(meteor: MeteorReward) -> None:
    captions = EncodedCaptions.from_lists([[[4, 5, 6], [4, 6]], [[5, 5, 7]]])
    images, generated = [0, 1, 1, 0], [[4, 6, SPECIAL_TOKENS.end], [12], [SPECIAL_TOKENS.end], [10]]
    found = caption_reward(captions, range(2), meteor=(2.0, meteor))(images, generated)
    added = meteor(images, generated)
    assert found == pytest.approx(caption_reward(captions, range(2))(images, generated) + 2 * added, rel=1e-12)
    assert added[1] == 1  # "wolf"
    assert added[2] == 0
    assert 0 < added[0] < 1  # "the cat"
    assert added[3] > 0  # "kitten" for "a kitten"
    all_three = caption_reward(captions, range(2), 0.5, meteor=(2.0, meteor))(images, generated)
    assert all_three == pytest.approx(caption_reward(captions, range(2), 0.5)(images, generated) + 2 * added, rel=1e-12)


def test_meteor_is_computed_from_the_words_of_the_data_set(
    meteor: MeteorReward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The references keep words that the vocabulary lacks, and <END> is no word."""
    monkeypatch.setattr(self_critical, "shared_meteor", lambda: meteor._meteor)
    tokenized = [[["the", "cat", "of", "dogs"], ["wolf"]], [["lion"]]]
    vocabulary = Vocabulary(["the", "cat", "of", "lion"])  # without "dogs"
    reward = meteor_reward(tokenized, vocabulary)
    spelled = vocabulary.encode(["the", "cat", "of"])
    found = reward([0, 1, 1], [[*spelled, SPECIAL_TOKENS.end], vocabulary.encode(["lion"]), [SPECIAL_TOKENS.end]])
    expected = evaluate(meteor._meteor.statistics(["the cat of"], [["the cat of dogs", "wolf"]]))[0]
    assert found.tolist() == [*expected.tolist(), 1, 0]


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """Two epochs of cross-entropy training and two of self-critical training, three steps each."""
    config = with_trainer(tiny_config(write_tiny_data(tmp_path / "data")), batch_size=6, max_epochs=4)
    cache = replace(config.cache, directory=str(tmp_path / "cache"))
    return replace(config, cache=cache, reward=RewardConfig(after=2, samples=3, learning_rate=0.01, bleu=1.0))


def test_a_resumed_run_with_all_terms(
    config: TrainConfig, tmp_path: Path, meteor: MeteorReward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With cross-entropy dropout is sampled in the RL phase too, so the random state matters there."""
    for module in (self_critical, training_setup):
        monkeypatch.setattr(module, "shared_meteor", lambda: meteor._meteor)
    config = replace(config, reward=replace(config.reward, cross_entropy_weight=0.5, fluency=1.0, meteor=1.5))
    whole = run(config, tmp_path / "whole")
    formula = "CIDEr-D + 1 × BLEU-4 + 1.5 × METEOR - 1 for a caption with an implausible phrase"
    assert f"Reward of self-critical training: {formula}\n" in (whole / "log.txt").read_text("utf-8")
    assert {"reward", "words"} <= [record for record in read_records(whole) if record["kind"] == "train"][-1].keys()
    assert_resumes_as(whole, config, tmp_path / "stopped", 8)


@pytest.mark.parametrize("stop_after", [5, 6, 8])
def test_a_resumed_run_keeps_its_anchor(config: TrainConfig, tmp_path: Path, stop_after: int) -> None:
    """Stopped before, at and after the start of self-critical training; the anchor is the average that is scored."""
    config = with_trainer(replace(config, reward=replace(config.reward, kl_weight=0.5, baseline="greedy")), ema=0.5)
    whole = run(config, tmp_path / "whole")
    records = [record for record in read_records(whole) if record["kind"] == "train"]
    assert "kl" not in records[0]
    assert 0 < records[-1]["kl"] < 5
    assert_resumes_as(whole, config, tmp_path / "stopped", stop_after)


def test_self_critical_training_from_a_checkpoint_at_once(config: TrainConfig, tmp_path: Path) -> None:
    """`reward.after=0`: the anchor is the checkpoint, which a run without steps in between equals."""
    first = run(with_trainer(replace(config, reward=RewardConfig()), max_epochs=1), tmp_path / "first")
    reward = RewardConfig(after=0, samples=3, kl_weight=2.0, method="minimum_risk")
    with pytest.raises(ConfigError, match=r"reward\.after=0 starts with self-critical training"):
        replace(config, reward=reward)
    config = replace(config, reward=reward, init_from=str(first))
    prepared = prepare(config, tmp_path / "second")
    assert not begin_epoch(prepared)
    assert prepared.anchor is not None
    for kept, trained in zip(prepared.anchor.decoder.parameters(), prepared.model.decoder.parameters(), strict=True):
        assert torch.equal(kept, trained)
        assert kept is not trained
        assert not kept.requires_grad
    prepared.progress.batch = 1
    prepared.anchor = None
    with pytest.raises(ConfigError, match=r"reward\.kl_weight=2 cannot begin in the middle"):
        begin_epoch(prepared)


@pytest.mark.parametrize("stop_after", [5, 6, 8])
def test_a_resumed_run_equals_an_uninterrupted_one(config: TrainConfig, tmp_path: Path, stop_after: int) -> None:
    """Stopped before, at and after the start of self-critical training."""
    whole = run(config, tmp_path / "whole")
    records = [record for record in read_records(whole) if record["kind"] == "train"]
    assert "reward" not in records[0]
    assert records[-1]["reward"] > 0
    assert (
        "Phase 2 (epochs 3-4): self-critical training (SCST), encoder frozen; training"
        in (whole / "log.txt").read_text()
    )
    assert_resumes_as(whole, config, tmp_path / "stopped", stop_after)


def test_a_log_line_is_of_one_objective(config: TrainConfig, tmp_path: Path) -> None:
    """A line every four steps: that of steps 5 to 8 would mix cross-entropy and rewards, and halve what either has."""
    each, some = (
        [record for record in read_records(folder) if record["kind"] == "train"]
        for folder in (run(with_trainer(config, log_every=n), tmp_path / str(n)) for n in (1, 4))
    )
    assert [(line["step"], line["epoch"]) for line in some] == [(4, 2), (6, 2), (8, 3), (12, 4)]
    first = 0
    for line in some:
        steps = each[first : line["step"]]
        first = line["step"]
        names = steps[0].keys() - {"kind", "step", "epoch", "words_per_second"}
        assert line.keys() - {"kind", "step", "epoch", "words_per_second"} == names
        assert ("reward" in names, "words" in names) == (line["step"] > 6, line["step"] <= 6)
        for name in names:
            assert line[name] == pytest.approx(sum(step[name] for step in steps) / len(steps))
    assert_resumes_as(tmp_path / "4", with_trainer(config, log_every=4), tmp_path / "stopped", 6)


def test_each_objective_has_its_own_schedule(config: TrainConfig, tmp_path: Path) -> None:
    optim = replace(config.optim, warmup_steps=0, learning_rate=0.5)
    first, second = plan_phases(replace(config, optim=optim))
    assert (first.schedule_steps(3, 12), second.schedule_steps(3, 12)) == ((0, 6), (6, 6))
    assert first.learning_rate_factor == 1
    assert second.learning_rate_factor * 0.5 == pytest.approx(0.01)


def test_patience_waits_for_self_critical_training(config: TrainConfig, tmp_path: Path) -> None:
    """It has run out after the last epoch of cross-entropy training, and counts from 0 again."""
    nothing_learns = replace(with_trainer(config, max_epochs=9, patience=2), optim=OptimConfig(learning_rate=0.0))
    folder = run(replace(nothing_learns, reward=RewardConfig(after=3, samples=3)), tmp_path / "run")
    validations = [record["epoch"] for record in read_records(folder) if record["kind"] == "validation"]
    assert validations == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("accumulate", [2, 6])
def test_micro_batches_make_the_same_step(config: TrainConfig, tmp_path: Path, accumulate: int) -> None:
    """The samples of an image do not depend on its micro-batch."""
    config = replace(config, model=replace(config.model, dropout=0.0))

    def rewarded(config: TrainConfig, folder: Path) -> tuple[list[dict[str, float]], list[Tensor]]:
        prepared = prepare(config, folder)
        prepared.progress.step, prepared.progress.epoch = 6, 2
        assert begin_epoch(prepared)
        prepared.model.train()
        losses = [training.train_step(prepared, step) for step in training.training_batches(prepared)]
        return losses, [parameter.detach().clone() for parameter in prepared.model.decoder.parameters()]

    whole, weights = rewarded(config, tmp_path / "whole")
    micro_batches, others = rewarded(
        with_trainer(config, gradient_accumulation_steps=accumulate), tmp_path / "micro-batches"
    )
    for expected, found in zip(whole, micro_batches, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    for weight, other in zip(weights, others, strict=True):
        torch.testing.assert_close(other, weight, rtol=1e-3, atol=1e-4)


def test_meteor_that_cannot_be_computed(config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message, before anything else is done."""

    def missing() -> None:
        raise MetricUnavailable("METEOR needs pycocoevalcap, which is not installed.")

    monkeypatch.setattr(training_setup, "shared_meteor", missing)
    with pytest.raises(ConfigError, match=r"reward\.meteor=0\.5 cannot be computed: METEOR needs pycocoevalcap"):
        run(replace(config, reward=replace(config.reward, meteor=0.5)), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"reward\.meteor=-1"):
        RewardConfig(meteor=-1)


def test_invalid_settings(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=r"reward\.after=4 leaves no epoch"):
        replace(config, reward=RewardConfig(after=4))
    hard = AttentionConfig(**{**vars(config.model), "attention": "hard", "gate": "none"})
    with pytest.raises(ConfigError, match="samples where to attend"):
        replace(config, model=hard)
    with pytest.raises(ConfigError, match=r"reward\.samples"):
        RewardConfig(samples=1)
    assert RewardConfig(samples=1, baseline="greedy").samples == 1
    with pytest.raises(ConfigError, match=r"reward\.baseline=greedy has no effect with reward\.method=minimum_risk"):
        RewardConfig(method="minimum_risk", baseline="greedy")
    for key in ("candidates", "sharpness"):
        with pytest.raises(ConfigError, match=rf"reward\.{key}=.* has no effect with reward\.method=scst"):
            RewardConfig(**{key: {"candidates": "beam", "sharpness": 2.0}[key]})
    assert RewardConfig(method="max_margin", candidates="beam", sharpness=0.1).method == "max_margin"
    with pytest.raises(ConfigError, match=r"meteor\.backend=java cannot go with reward\.meteor=2"):
        replace(config, reward=replace(config.reward, meteor=2.0), meteor=MeteorConfig("java"))
    with pytest.raises(ConfigError, match=r"reward\.sharpness=0"):
        RewardConfig(method="minimum_risk", sharpness=0.0)
    for key in ("fluency", "cross_entropy_weight", "kl_weight", "length"):
        with pytest.raises(ConfigError, match=rf"reward\.{key}"):
            RewardConfig(**{key: -1.0})
