"""R-Drop against its equations in NumPy, and its gradient by finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captioner.config import AttentionConfig, FolderConfig, ObjectiveConfig
from captioner.errors import ConfigError
from captioner.nn.packing import pack_captions
from captioner.nn.types import AuxiliaryLoss, DecoderOutput, ImageFeatures
from captioner.training.losses import captioning_losses
from captioner.training.r_drop import symmetric_divergence
from tests.tiny import tiny_config

V = 7


def two_passes(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.normal(0, 2, (rows, V))), torch.from_numpy(generator.normal(0, 2, (rows, V)))


def probabilities(logits: torch.Tensor) -> np.ndarray:
    values = np.exp(logits.detach().numpy())
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def by_equation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Σ ½ [KL(p ‖ q) + KL(q ‖ p)]."""
    p, q = probabilities(first), probabilities(second)
    return float(0.5 * ((p * np.log(p / q)).sum() + (q * np.log(q / p)).sum()))


def test_the_divergence_is_its_equation() -> None:
    first, second = two_passes(5)
    assert float(symmetric_divergence(first, second)) == pytest.approx(by_equation(first, second), rel=1e-10)
    assert float(symmetric_divergence(first, second)) == float(symmetric_divergence(second, first))
    assert float(symmetric_divergence(first, first)) == 0


def test_gradients_by_finite_differences() -> None:
    passes = [part.requires_grad_() for part in two_passes(3)]
    assert torch.autograd.gradcheck(symmetric_divergence, passes)


def test_the_loss_is_half_of_the_paper_s() -> None:
    """½ [−log p_1(y) − log p_2(y) + α · ½ (KL + KL)], per token; a decoder's own losses are means of both passes."""
    packed = pack_captions([[[4, 5], [6]]])
    rows = len(packed.targets)
    passes = two_passes(rows)
    own = iter((2.0, 4.0))
    answers = iter(
        DecoderOutput(logits, losses={"own": AuxiliaryLoss(torch.tensor(next(own)), 0.5)}) for logits in passes
    )
    model = lambda features, captions: next(answers)  # noqa: E731
    found = captioning_losses(
        model,  # type: ignore[arg-type]
        ImageFeatures(torch.zeros(1, 1)),
        packed,
        label_smoothing=0.0,
        objective=ObjectiveConfig(r_drop=3.0),
    )
    targets = packed.targets.numpy()
    costs = [-np.log(probabilities(logits)[np.arange(rows), targets]).sum() / rows for logits in passes]
    assert float(found["words"]) == pytest.approx(sum(costs) / 2)
    assert float(found["r_drop"]) == pytest.approx(by_equation(*passes) / rows)
    papers = (sum(costs) + 3.0 * by_equation(*passes) / rows) / 2
    assert float(found["loss"]) == pytest.approx(papers + 0.5 * 3.0 / rows)
    assert float(found["own"]) == pytest.approx(3.0 / rows)


def test_settings_with_which_two_passes_cannot_be_compared() -> None:
    config = tiny_config(FolderConfig(root="data", captions="captions.csv"))
    model = {name: value for name, value in vars(config.model).items() if name not in ("attention", "gate", "dropout")}
    settings = {**vars(config), "objective": ObjectiveConfig(r_drop=1.0)}
    for other, message in (
        ({"dropout": 0.0}, r"objective\.r_drop=1 has no effect with model\.dropout=0"),
        ({"dropout": 0.5, "attention": "hard", "gate": "none"}, r"objective\.r_drop=1 cannot go with .*attention=hard"),
    ):
        with pytest.raises(ConfigError, match=message):
            type(config)(**settings | {"model": AttentionConfig(**{**model, **other})})
