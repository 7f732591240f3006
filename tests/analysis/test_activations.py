"""Recorded states and gates equal those of the equations, token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from captioner.analysis.activations import (
    Recording,
    gate_saturation,
    join_recordings,
    record_captions,
    record_cell_states,
    record_text,
)
from captioner.config import CELLS, AttentionConfig, LanguageNetworkConfig, ModelConfig, RecurrentConfig
from captioner.errors import ConfigError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.language_model import LanguageModel
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS

V, H = 9, 5
GATE_COUNTS = {"rnn": 0, "rnn_relu": 0, "gru": 2, "mut1": 2, "mut2": 2, "mut3": 2, "lstm_coupled_gates": 2} | {
    f"lstm_no_{gate}_gate": 2 for gate in ("input", "forget", "output")
}  # the others have three


def language_model(cell: str, layers: int = 1) -> LanguageModel:
    settings = LanguageNetworkConfig(cell=cell, layers=layers, embedding_dim=4, hidden_dim=H)
    return LanguageModel(settings, V).double().eval()


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_states_are_those_of_the_model_after_each_token(cell: str) -> None:
    model = language_model(cell, layers=2)
    numbers = torch.randint(4, V, (7,))
    recording = record_text(model.train(), numbers, [str(n) for n in numbers.tolist()])
    model.eval()
    _, hidden = model.step(torch.tensor([SPECIAL_TOKENS.start]), model.initial(1))
    for i in range(7):
        _, hidden = model.step(numbers[i : i + 1], hidden)
        names = ["layer1.h", "layer1.c", "layer2.h", "layer2.c"] if cell == "lstm" else ["layer1.h", "layer2.h"]
        for name, state in zip(names, hidden, strict=True):
            assert torch.equal(recording.values[name][i], state[0].detach()), name
    assert set(recording.states) == set(names)


def test_gates_are_those_of_the_equations() -> None:
    """i, f, o = σ(Wx + b + Uh) and r, z likewise, from the recorded states."""
    numbers = torch.randint(4, V, (6,))
    for cell, gates in (("lstm", {0: "input", 1: "forget", 3: "output"}), ("gru", {0: "reset", 1: "update"})):
        model = language_model(cell)
        recording = record_text(model, numbers, ["x"] * 6)
        assert set(recording.gates) == {f"layer1.{name}_gate" for name in gates.values()}
        before = recording.values["layer1.h"][:-1]
        inputs = model.stack.project(model.embedding(numbers[1:]))
        added = (inputs + before @ model.stack.cells[0].recurrent.weight.t()).detach()
        for block, name in gates.items():
            expected = torch.sigmoid(added[:, block * H : (block + 1) * H])
            assert torch.allclose(recording.values[f"layer1.{name}_gate"][1:], expected, atol=1e-12), name


@pytest.mark.parametrize("cell", CELLS)
def test_the_gates_of_every_cell_are_named(cell: str) -> None:
    """One name per gate, values in (0, 1); with full gate recurrence the gates are states too, with equal values."""
    model = language_model(cell, layers=2)
    with record_cell_states(model) as recorded:
        _, hidden = model.step(torch.tensor([4, 5]), model.initial(2))
    gates = {name: value for name, (value,) in recorded.items() if name.endswith("gate")}
    expected = {"rnn": 0, "gru": 2, "mut": 2, "lstm_no": 2, "lstm_c": 2}
    assert len(gates) == 2 * next(
        (n for start, n in expected.items() if cell.startswith(start) and "activ" not in cell), 3
    )
    assert all(bool(((value > 0) & (value < 1)).all()) for value in gates.values())
    if cell == "lstm_full_gate_recurrence":
        for name, state in zip(("input", "forget", "output"), hidden[2:5], strict=True):
            assert torch.equal(gates[f"layer1.{name}_gate"], state.detach())


@pytest.mark.parametrize("cell", ["mut1", "mut2", "mut3"])
def test_update_gates_of_the_mut_cells(cell: str) -> None:
    """z = σ(x_z + U·h), σ(x_z) and σ(x_z + U·tanh(h)) in MUT2, MUT1 and MUT3."""
    model = language_model(cell)
    before = torch.randn(2, H, dtype=torch.float64)
    with record_cell_states(model) as recorded:
        model.step(torch.tensor([4, 5]), (before,))
    x = model.stack.project(model.embedding(torch.tensor([4, 5])))[:, :H]
    cell_of_layer = model.stack.cells[0]
    factor = {"mut1": 0.0, "mut2": 1.0, "mut3": 1.0}[cell]
    state = before.tanh() if cell == "mut3" else before
    added = factor * state @ cell_of_layer.update.weight.t() if factor else 0.0
    assert torch.allclose(recorded["layer1.update_gate"][0], torch.sigmoid(x + added).detach(), atol=1e-12)


@pytest.mark.parametrize("config", [RecurrentConfig(cell="gru"), AttentionConfig(cell="lstm", layers=2)])
def test_captions_are_read_independently_of_the_batch(config: ModelConfig) -> None:
    config.embedding_dim = config.hidden_dim = H
    if isinstance(config, AttentionConfig):
        config.attention_dim = 3
    model: Any = torch.nn.Module()  # only the decoder of a captioning model is needed
    model.decoder = build_decoder(config, V, 6)
    features = ImageFeatures(torch.randn(3, 6), torch.randn(3, 4, 6))
    captions = [
        [4, 5],
        [6, 7, 8, 4],
        [],
    ][:3]
    words = [[str(number) for number in caption] for caption in captions]
    together = record_captions(model, features, captions, words)
    assert together.tokens == ["4", "5", "6", "7", "8", "4"]
    assert together.starts == [0, 2, 6]
    alone = [
        record_captions(
            model, ImageFeatures(features.vector[i : i + 1], features.grid[i : i + 1]), captions[i : i + 1], [words[i]]
        )
        for i in range(2)
    ]
    joined = join_recordings(alone)
    assert joined.starts == [0, 2]
    assert joined.tokens == together.tokens
    for name, values in together.values.items():
        assert torch.allclose(values, joined.values[name], atol=1e-6), name
    state = model.decoder.init_state(features)
    for token in (SPECIAL_TOKENS.start, 4, 5):
        state = model.decoder.step(torch.full((3,), token), state).state
    assert torch.allclose(together.values["layer1.h"][1], state.rows.hidden[0][0], atol=1e-6)


def test_the_cells_are_restored() -> None:
    model = language_model("lstm")
    with pytest.raises(RuntimeError, match="stop"), record_cell_states(model):
        raise RuntimeError("stop")
    assert "step" not in vars(model.stack.cells[0])


def test_saturation_is_a_fraction_of_time() -> None:
    gate = torch.tensor([[0.05, 0.95], [0.5, 0.91], [0.0, 0.2], [0.3, 0.9]])
    shares = gate_saturation(Recording([], {"layer1.forget_gate": gate, "layer1.h": gate}, []))
    assert shares.keys() == {"layer1.forget_gate"}
    assert shares["layer1.forget_gate"].left.tolist() == [0.5, 0.0]
    assert shares["layer1.forget_gate"].right.tolist() == [0.0, 0.5]


@pytest.mark.parametrize("name", ["layer1.h.5", "layer1.h.x", "layer1.h", "layer1.hh.0", "", "layer1.h.-1"])
def test_a_missing_unit_is_named(name: str) -> None:
    recording = record_text(language_model("rnn"), torch.tensor([4]), ["a"])
    assert recording.unit("layer1.h.4").shape == (1,)
    with pytest.raises(ConfigError, match=f"unit={name} does not exist"):
        recording.unit(name)
