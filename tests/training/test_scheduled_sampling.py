"""Scheduled sampling against loops over single captions, and what must not change with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import DECODERS, CacheConfig, DecodeConfig, ObjectiveConfig, RewardConfig, TrainConfig
from captioner.data.batches import mix_seeds
from captioner.decode import search
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.packing import PackedCaptions, pack_captions, unpack
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS
from captioner.training.logs import read_records
from captioner.training.scheduled_sampling import with_own_words
from captioner.training.setup import prepare
from captioner.training.step import train_step, training_batches
from tests.tiny import tiny_config, with_trainer, write_tiny_data
from tests.training.test_loop import assert_resumes_as, run

V, D, P = 11, 6, 4
START, END = SPECIAL_TOKENS.start, SPECIAL_TOKENS.end
CAPTIONS = [[[4, 5, 6], [7]], [[8, 9, 4, 5, 10]], [[6, 6], [5, 4, 4, 9], []]]
IDS = [7, 3, 20]
PARALLEL = ("transformer", "m2")


class Model(torch.nn.Module):
    """A decoder in float64, with random weights that make it decided."""

    def __init__(self, name: str, seed: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        config = DECODERS[name](name=name, embedding_dim=8, hidden_dim=8, dropout=0.5)
        self.decoder: Decoder[Any] = build_decoder(config, V, D).double()
        for parameter in self.decoder.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
        if name == "semantic_attention":
            self.decoder.class_words[:, 0] = torch.randint(4, V, (len(self.decoder.class_words),))
        grid = torch.randn(len(CAPTIONS), P, D, dtype=torch.float64)
        self.features = ImageFeatures(grid.mean(1), grid)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> Any:
        return self.decoder(features, captions)


def mixed(model: Model, captions: list[list[list[int]]], **options: Any) -> dict[tuple[int, int], list[int]]:
    """(image, caption) → the words that are read, <START> first."""
    packed = pack_captions(captions)
    options = {"reference_share": 0.4, "own_words": "sample", "seed": 5, "image_ids": IDS} | options
    found = with_own_words(model, model.features, packed, **options)  # type: ignore[arg-type]
    assert torch.equal(found.targets, packed.targets)
    rows = zip(packed.images.tolist(), packed.caption_indices.tolist(), strict=True)
    return dict(zip(rows, unpack(found.inputs, packed), strict=True))


def random_number(seed: int, count: int) -> float:
    """Number `count` of the stream of `seed`, by SplitMix64 with Python's integers."""
    ones = 2**64 - 1
    z = (seed + (count + 1) * 0x9E3779B97F4A7C15) & ones
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & ones
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & ones
    return float(((z ^ z >> 31) >> 40) / 2**24)


def chosen(logits: np.ndarray, draw: float | None) -> int:
    """The word of a row of logits: that of the draw, or the most probable one; never <PAD>, <START> or <UNK>."""
    allowed = [END, *range(4, V)]
    p = np.exp(logits[allowed] - logits[allowed].max())
    if draw is None:
        return allowed[int(p.argmax())]
    return allowed[int(np.searchsorted(np.cumsum(p / p.sum()), draw, side="right"))]


def by_loops(model: Model, image: int, index: int, words: list[int], share: float, choice: str) -> list[int]:
    """What one caption reads, word by word, with a state of its own."""
    decoder = model.eval().decoder
    grid, vector = model.features.grid, model.features.vector
    assert grid is not None
    alone = ImageFeatures(vector[image][None], grid[image][None])
    stream = mix_seeds(5, IDS[image], index)
    is_parallel = type(decoder).__name__ in ("TransformerDecoder", "M2Decoder")
    reads, state = [START], decoder.init_state(alone)
    for place, word in enumerate(words, start=1):
        before = [START, *words][place - 1] if is_parallel else reads[-1]
        step = decoder.step(torch.tensor([before]), state)
        state = step.state
        draw = random_number(stream, 2 * place + 1) if choice == "sample" else None
        own = chosen(step.logits[0].detach().numpy(), draw)
        is_own = random_number(stream, 2 * place) >= share and own != END
        reads.append(own if is_own else word)
    return reads


@pytest.mark.parametrize("choice", ["sample", "argmax"])
@pytest.mark.parametrize("name", DECODERS)
def test_the_words_read_are_those_of_loops_over_single_captions(name: str, choice: str) -> None:
    model = Model(name)
    assert model.decoder.parallel_over_steps == (name in PARALLEL)
    for share in (0.0, 0.4):
        found = mixed(model.train(), CAPTIONS, reference_share=share, own_words=choice)
        assert model.training
        expected = {
            (image, index): by_loops(model, image, index, words, share, choice)
            for image, own in enumerate(CAPTIONS)
            for index, words in enumerate(own)
        }
        assert found == expected
        references = {(i, k): [START, *words] for i, own in enumerate(CAPTIONS) for k, words in enumerate(own)}
        assert found != references, "no word was its own"


@given(
    captions=st.lists(st.lists(st.lists(st.integers(4, V - 1), max_size=5), min_size=1, max_size=3), min_size=3,
                      max_size=3),
    share=st.floats(0, 1),
    seed=st.integers(0, 5),
)  # fmt: skip
@settings(deadline=None, max_examples=12)
def test_other_captions_of_the_batch_change_nothing(captions: Any, share: float, seed: int) -> None:
    """Each image alone reads the same, so micro-batches and processes do."""
    model = Model("attention")
    together = mixed(model, captions, reference_share=share, seed=seed)
    for image, own in enumerate(captions):
        alone = pack_captions([own])
        features = model.features.images(lambda part, image=image: part[image][None])
        found = with_own_words(
            model,
            features,
            alone,
            reference_share=share,
            own_words="sample",
            seed=seed,
            image_ids=[IDS[image]],  # type: ignore[arg-type]
        )
        for row, words in enumerate(unpack(found.inputs, alone)):
            assert words == together[image, int(alone.caption_indices[row])]


@pytest.mark.parametrize("name", [name for name in DECODERS if name not in PARALLEL])
def test_without_references_the_most_probable_words_are_those_of_greedy_search(name: str) -> None:
    """ε = 0 with argmax is free running, up to the <END> of greedy search."""
    model = Model(name, seed=3).eval()
    found = mixed(model, [[[4] * 7]] * 3, reference_share=0.0, own_words="argmax")
    with torch.inference_mode():
        greedy = search(model.decoder, model.features, DecodeConfig(name="greedy", max_length=7), SPECIAL_TOKENS)
    for image, (hypothesis, *_) in enumerate(greedy):
        words = list(hypothesis.tokens)
        assert found[image, 0][: len(words) + 1] == [START, *words]


def test_references_only_compute_nothing() -> None:
    packed = pack_captions(CAPTIONS)
    nothing: Any = None
    options: Any = {"own_words": "sample", "seed": 0, "image_ids": IDS}
    assert with_own_words(nothing, nothing, packed, reference_share=1.0, **options) is packed


def test_the_share_of_reference_words_is_epsilon() -> None:
    model = Model("recurrent", seed=4)  # one that would not say the reference word
    captions = [[[4] * 30 for _ in range(16)] for _ in range(3)]
    replaced = [
        word != 4
        for seed in range(4)
        for words in mixed(model, captions, reference_share=0.7, seed=seed, own_words="argmax").values()
        for word in words[1:]
    ]
    always = [
        word != 4
        for words in mixed(model, captions, reference_share=0.0, own_words="argmax").values()
        for word in words[1:]
    ]
    assert np.mean(always) > 0.9, "the model hardly says the reference word by itself"
    assert np.mean(replaced) / np.mean(always) == pytest.approx(0.3, abs=0.04)


def test_no_gradient_reaches_the_chosen_words() -> None:
    """The inputs are ordinary integers, and the gradient is that of training on them."""
    model = Model("attention").eval()
    packed = pack_captions(CAPTIONS)
    inputs = with_own_words(
        model,
        model.features,
        packed,
        reference_share=0.2,
        own_words="sample",
        seed=1,
        image_ids=IDS,  # type: ignore[arg-type]
    ).inputs
    assert not inputs.is_inference()
    assert not inputs.requires_grad
    model(model.features, packed._replace(inputs=inputs)).logits.sum().backward()
    assert model.decoder.embedding.weight.grad is not None


SAMPLED = ObjectiveConfig(scheduled_sampling="linear", sampling_k=0.8, sampling_c=0.05, sampling_floor=0.3)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("scheduled_sampling")
    config = tiny_config(write_tiny_data(folder / "data"))
    return replace(config, cache=CacheConfig(directory=str(folder / "cache")), objective=SAMPLED)


def test_a_resumed_run_equals_the_uninterrupted_one(config: TrainConfig, tmp_path: Path) -> None:
    """With all three additions; and the log has ε of each step."""
    config = replace(config, objective=replace(SAMPLED, unlikelihood=0.5, r_drop=0.5))
    config = replace(config, optim=replace(config.optim, schedule="constant"))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run(config, whole)
    assert_resumes_as(whole, config, stopped, stop_after=5)
    records = [record for record in read_records(whole) if record["kind"] == "train"]
    assert [record["reference_share"] for record in records] == pytest.approx(
        [max(0.3, 0.8 - 0.05 * step) for step in range(len(records))]
    )
    assert all(record["unlikelihood"] > 0 and record["r_drop"] > 0 for record in records)


def test_epsilon_1_is_teacher_forcing_to_the_bit(config: TrainConfig, tmp_path: Path) -> None:
    weights = []
    for name, objective in (("off", ObjectiveConfig()), ("on", ObjectiveConfig(scheduled_sampling="linear"))):
        prepared = prepare(replace(config, objective=objective), tmp_path)
        prepared.model.train()
        losses = [train_step(prepared, batch) for batch in training_batches(prepared)]
        assert [step.pop("reference_share", None) for step in losses] == [1.0 if name == "on" else None] * len(losses)
        weights.append((losses, [parameter.detach().clone() for parameter in prepared.model.parameters()]))
    assert weights[0][0] == weights[1][0]
    assert all(torch.equal(one, two) for one, two in zip(weights[0][1], weights[1][1], strict=True))


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_make_the_same_step(config: TrainConfig, tmp_path: Path, accumulate: int) -> None:
    config = replace(config, model=replace(config.model, dropout=0.0))
    results = []
    for steps in (1, accumulate):
        prepared = prepare(with_trainer(config, gradient_accumulation_steps=steps), tmp_path)
        prepared.model.train()
        results.append([train_step(prepared, batch) for batch in training_batches(prepared)])
    for expected, found in zip(*results, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_cross_entropy_beside_a_reward_is_sampled_too(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, reward=RewardConfig(after=1, samples=2, cross_entropy_weight=1.0))
    records = [record for record in read_records(run(config, tmp_path / "run")) if record["kind"] == "train"]
    assert "reward" in records[-1]
    assert records[-1]["reference_share"] == pytest.approx(0.8 - 0.05 * (len(records) - 1))
