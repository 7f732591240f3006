"""The learning-rate schedule, and the learning rates of the parameter groups."""

from __future__ import annotations

import math
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.config import OptimConfig, RecurrentConfig
from captioner.nn.build_model import build_model
from captioner.nn.model import CaptioningModel
from captioner.training.optimizer import build_optimizer, schedule_factor, set_learning_rate, without_compiler
from tests.tiny import ENCODER

SCHEDULES = st.sampled_from(["constant", "cosine", "step"])


def factors(config: OptimConfig, total: int, steps_per_epoch: int = 10) -> list[float]:
    return [schedule_factor(config, step, total, steps_per_epoch) for step in range(total)]


@given(schedule=SCHEDULES, warmup=st.integers(1, 50))
@settings(deadline=None, max_examples=30)
def test_the_warm_up_is_linear_and_ends_at_one(schedule: str, warmup: int) -> None:
    found = factors(OptimConfig(schedule=schedule, warmup_steps=warmup), total=warmup)
    assert found == pytest.approx([(step + 1) / warmup for step in range(warmup)])
    assert found[-1] == 1.0


def test_constant() -> None:
    assert factors(OptimConfig(schedule="constant", warmup_steps=0), 5) == [1.0] * 5


@given(warmup=st.integers(0, 20), after=st.integers(1, 200))
@settings(deadline=None, max_examples=40)
def test_cosine_falls_from_one_to_zero(warmup: int, after: int) -> None:
    config, total = OptimConfig(schedule="cosine", warmup_steps=warmup), warmup + after
    found = factors(config, total)[warmup:]
    assert found == pytest.approx([(1 + math.cos(math.pi * step / after)) / 2 for step in range(after)])
    assert found[0] == 1.0
    assert all(0 < later < sooner for sooner, later in pairwise(found))
    assert schedule_factor(config, total, total, 10) == pytest.approx(0.0, abs=1e-15)
    assert schedule_factor(config, total + 7, total, 10) == pytest.approx(0.0, abs=1e-15)  # it stays at 0
    assert schedule_factor(config, warmup + after // 2, total, 10) == pytest.approx(0.5, abs=2 / after)


def test_step_changes_every_few_epochs() -> None:
    config = OptimConfig(schedule="step", warmup_steps=0, step_epochs=2, step_factor=0.1)
    assert factors(config, total=70) == pytest.approx([1] * 20 + [0.1] * 20 + [0.01] * 20 + [0.001] * 10)


def test_a_run_shorter_than_its_warm_up() -> None:
    for schedule in ("constant", "cosine", "step"):
        assert factors(OptimConfig(schedule=schedule, warmup_steps=100), 3) == pytest.approx([0.01, 0.02, 0.03])


# ---------------------------------------------------------------------------------------------- groups


def model(fine_tune_from: str | None = None) -> CaptioningModel:
    decoder = RecurrentConfig(embedding_dim=4, hidden_dim=4, tie_embeddings=True)
    return build_model(decoder, replace(ENCODER, fine_tune_from=fine_tune_from), 9)


CONFIG = OptimConfig(learning_rate=0.02, encoder_learning_rate=0.003, weight_decay=0.1, betas=(0.8, 0.95))


def test_a_frozen_encoder_has_no_parameter_group() -> None:
    frozen = model()
    (group,) = build_optimizer(frozen, CONFIG).param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in frozen.decoder.parameters()}
    assert len(group["params"]) == len(set(map(id, group["params"])))  # the tied weight appears once
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.02, 0.1, (0.8, 0.95))


def test_trainable_blocks_have_their_own_rate() -> None:
    tuned = model("features.11")
    decoder, encoder = build_optimizer(tuned, CONFIG).param_groups
    assert (decoder["lr"], encoder["lr"]) == (0.02, 0.003)
    thawed = {
        id(p) for name, p in tuned.encoder.trunk.named_parameters() if name.startswith(("features.11", "features.12"))
    }
    assert {id(p) for p in encoder["params"]} == thawed


def test_all_rates_follow_the_schedule() -> None:
    optimizer = build_optimizer(model("features.12"), CONFIG)
    for factor in (0.5, 0.25, 1.0):  # of the base rate each time, not of the last one
        assert set_learning_rate(optimizer, factor, 0) == 0.02 * factor
        assert [group["lr"] for group in optimizer.param_groups] == [0.02 * factor, 0.003 * factor]


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_the_name_selects_the_optimizer(name: str, kind: type) -> None:
    assert type(build_optimizer(model(), replace(CONFIG, name=name))).__base__ is kind


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {"lr": 0.02, "weight_decay": 0.1, "fused": True}),
        ("AdamW", {"lr": 0.02, "weight_decay": 0.1, "fused": True}),
        ("SGD", {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9}),
    ],
)
def test_without_the_compiler_steps_are_those_of_torch(name: str, options: dict[str, Any]) -> None:
    """The same bytes, also from a stored state on; and weights stay leaves without a history."""
    kind, learners = getattr(torch.optim, name), [torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)]
    learners[1].load_state_dict(learners[0].state_dict())
    images = torch.randn(4, 5, 3)
    for first in (0, 2):  # the second time from the state of the first optimizer
        optimizers = [
            make(learner.parameters(), **options)
            for make, learner in zip((kind, without_compiler(kind)), learners, strict=True)
        ]
        if first:
            for optimizer in optimizers:
                optimizer.load_state_dict(deepcopy(state))
        for batch in images[first : first + 2]:
            for learner, optimizer in zip(learners, optimizers, strict=True):
                optimizer.zero_grad()
                learner(batch).square().sum().backward()
                optimizer.step()
        state = optimizers[1].state_dict()
        assert str(state) == str(optimizers[0].state_dict())
        for theirs, ours in zip(*(learner.parameters() for learner in learners), strict=True):
            assert torch.equal(theirs, ours)
            assert ours.is_leaf
            assert ours.requires_grad


def test_a_training_step_imports_neither_torchvision_nor_the_compiler() -> None:
    """Both take seconds and memory of every start: a run with the default settings needs neither."""
    code = (
        "import sys, torch; import captioner.cli.train_job; from captioner.nn.build_model import build_model; "
        "from captioner.config import EncoderConfig, OptimConfig, RecurrentConfig; "
        "from captioner.training.optimizer import build_optimizer, clip_gradient; "
        "learner = build_model(RecurrentConfig(embedding_dim=4, hidden_dim=4), EncoderConfig(weights=None), 9); "
        "optimizer = build_optimizer(learner, OptimConfig()); "
        "sum(p.square().sum() for p in learner.decoder.parameters()).backward(); clip_gradient(optimizer, 1.0); "
        "optimizer.step(); optimizer.zero_grad(); optimizer.state_dict(); "
        "print([name for name in ('torchvision', 'torch._dynamo', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_first_beta_is_the_momentum_of_sgd() -> None:
    """w − lr · g, then w − lr · (½ g + g)."""
    learner = model()
    optimizer = build_optimizer(learner, replace(CONFIG, name="sgd", betas=(0.5, 0.9), weight_decay=0.0))
    for expected in (-0.02, -0.02 - 0.02 * 1.5):
        with torch.no_grad():
            for parameter in learner.decoder.parameters():
                if expected == -0.02:
                    parameter.fill_(0.0)
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        for parameter in learner.decoder.parameters():
            torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, expected), rtol=1e-5, atol=1e-8)


def test_decay_is_decoupled_in_adamw_only() -> None:
    """Without a gradient AdamW shrinks weights by lr · decay; Adam, whose decay is a gradient, takes a step of lr."""
    for name, expected in (("adamw", 1 - 0.02 * 0.1), ("adam", 1 - 0.02)):
        learner = model()
        with torch.no_grad():
            for parameter in learner.decoder.parameters():
                parameter.fill_(1.0)
                parameter.grad = torch.zeros_like(parameter)
        build_optimizer(learner, replace(CONFIG, name=name)).step()
        for parameter in learner.decoder.parameters():
            torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, expected), rtol=1e-5, atol=0)


def test_an_encoder_that_starts_later_warms_up_from_there() -> None:
    optimizer = build_optimizer(model("features.12"), replace(CONFIG, warmup_steps=4), encoder_starts=10)
    rates = []
    for step in (0, 9, 10, 11, 13, 20):
        set_learning_rate(optimizer, 0.5, step)
        rates.append(optimizer.param_groups[1]["lr"] / (0.5 * CONFIG.encoder_learning_rate))
    assert rates == [0.0, 0.0, 0.25, 0.5, 1.0, 1.0]
