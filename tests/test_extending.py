"""A decoder, an encoder, a cell, a data set and a metric from outside the package are trained, saved and used.

One module defines them; it is added to the registries in Python, or by the entry points of an installed package.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.config import CELLS, DATASETS, DECODERS, ENCODERS, CacheConfig, EncoderConfig, MetricConfig, TrainConfig
from captioner.errors import ConfigError
from captioner.inference import Captioner
from captioner.metrics import METRICS
from captioner.nn.build_model import build_model
from captioner.registry import Registry, load_object
from captioner.training.compile import compile_steps
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data

TOYS = '''
"""A toy decoder, encoder, cell, data set and metric."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from captioner.config import DataConfig, ModelConfig, TransformConfig
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.metrics import Metric, MetricResult
from captioner.nn.cells import Cell
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.encoders.trunk import EncoderNetwork
from captioner.nn.types import DecoderState, DecoderStep, rows_of_images


@dataclass
class ToyDecoderConfig(ModelConfig):
    decoder: ClassVar[str] = "toys:ToyDecoder"
    name: str = "toy_decoder"
    scale: float = 2.0


class ToyDecoder(Decoder):
    """A running mean of the word embeddings, plus the image."""

    def __init__(self, config, vocabulary_size, feature_dim):
        super().__init__()
        self.scale = config.scale
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_dim)
        self.image = nn.Linear(feature_dim, config.embedding_dim)
        self.output = nn.Linear(config.embedding_dim, vocabulary_size)

    def init_state(self, features):
        image = torch.tanh(self.image(features.vector))
        return DecoderState((image,), (torch.zeros_like(image),))

    def step(self, tokens, state):
        (image,), (mean,) = state.image, state.rows
        mean = 0.5 * mean + 0.5 * self.embedding(tokens)
        logits = self.output(self.scale * mean + rows_of_images(image, len(tokens)))
        return DecoderStep(logits, DecoderState((image,), (mean,)))


class ToyCell(Cell):
    gates = 1
    states = 1

    def __init__(self, hidden_dim):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.decay = nn.Parameter(torch.full((hidden_dim,), 0.5))

    def step(self, inputs, hidden):
        return (torch.tanh(inputs) + self.decay * hidden[0],)


def toy_encoder(config):
    trunk = nn.Sequential()
    trunk.add_module("conv", nn.Conv2d(3, 8, 8, stride=8))
    trunk.add_module("relu", nn.ReLU())
    return EncoderNetwork(trunk, TransformConfig(size=config.image_size or 32))


@dataclass
class ToyDataConfig(DataConfig):
    reader: ClassVar[str] = "toys"
    name: str = "toy_data"


def available_splits(config):
    return ["train", "val"]


def read_split(config, split):
    images = [CaptionedImage(path.stem, path, ("a toy",)) for path in sorted(Path(config.root).glob("*.png"))]
    return CaptionDataset("toy_data", split, tuple(images[:8] if split == "train" else images[8:12]))


def toy_lengths(captions):
    return MetricResult(per_image={"Toy": np.array([float(len(words)) for words in captions.hypotheses])})


TOY_METRIC = Metric(toy_lengths, scores=("Toy",), monitors=("Toy",))
'''
ITEMS = {
    "toy_decoder": (DECODERS, "captioner.decoders", "toys:ToyDecoderConfig"),
    "toy_encoder": (ENCODERS, "captioner.encoders", "toys:toy_encoder"),
    "toy_cell": (CELLS, "captioner.cells", "toys:ToyCell"),
    "toy_data": (DATASETS, "captioner.datasets", "toys:ToyDataConfig"),
    "Toy": (METRICS, "captioner.metrics", "toys:TOY_METRIC"),
}


@pytest.fixture(params=["registered in Python", "entry points of an installed package"])
def toys(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toys under their names, from a module that is not part of the package."""
    site = tmp_path / "site"
    metadata = site / "toys-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "toys.py").write_text(TOYS)
    monkeypatch.syspath_prepend(str(site))
    if request.param == "registered in Python":
        for name, (registry, _, reference) in ITEMS.items():
            registry.register(name, load_object(reference))  # type: ignore[attr-defined]
    else:
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
        points = [f"[{group}]\n{name} = {reference}\n" for name, (_, group, reference) in ITEMS.items()]
        (metadata / "entry_points.txt").write_text("\n".join(points))
        for registry, _, _ in ITEMS.values():
            monkeypatch.setattr(registry, "_plugins", None)  # read them again
    yield
    if request.param == "registered in Python":
        for name, (registry, _, _) in ITEMS.items():
            registry.unregister(name)  # type: ignore[attr-defined]
    sys.modules.pop("toys", None)


def toy_settings(folder: Path) -> TrainConfig:
    """One epoch of two steps with the toys, and a checkpoint at its end."""
    root = write_tiny_data(folder / "data").root
    config = with_trainer(tiny_config(DATASETS["toy_data"](root=root, num_workers=0)), max_epochs=1, monitor="Toy")  # type: ignore[arg-type]
    config.model = DECODERS["toy_decoder"](name="toy_decoder", embedding_dim=6, scale=1.5)  # type: ignore[call-arg]
    config.encoder = EncoderConfig(name="toy_encoder", weights=None)
    config.metric = MetricConfig(names=["Toy"])
    config.cache = CacheConfig(directory=str(folder / "cache"))
    return config


@pytest.mark.usefixtures("toys")
def test_toys_are_trained_saved_loaded_and_caption(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    result = prepare(toy_settings(tmp_path), run)
    before = {name: value.clone() for name, value in result.model.decoder.state_dict().items()}
    train(result)
    assert result.progress.step == 2
    validations = [
        record for record in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if "Toy" in record
    ]
    assert [record["epoch"] for record in validations] == [1]
    after = result.model.decoder.state_dict()
    assert all(not torch.equal(after[name], value) for name, value in before.items())
    loaded = load_checkpoint(run, torch.device("cpu"))
    assert loaded.settings.model.scale == 1.5  # type: ignore[attr-defined]
    assert type(loaded.model.decoder).__name__ == "ToyDecoder"
    assert loaded.model.encoder.grid_size == (4, 4)
    caption = Captioner(loaded, torch.device("cpu")).caption(tmp_path / "data" / "000.png")
    assert caption.attention is None


@pytest.mark.usefixtures("toys")
def test_a_toy_cell_works_in_every_recurrent_decoder(tmp_path: Path) -> None:
    for name in ("recurrent", "attention", "mrnn", "chen_zitnick"):
        settings = DECODERS[name](name=name, cell="toy_cell", embedding_dim=4, hidden_dim=6)
        model = build_model(settings, EncoderConfig("toy_encoder", weights=None), 9)
        state = model.decoder.init_state(model.encode(torch.rand(2, 3, 32, 32)))
        assert model.decoder.step(torch.tensor([1, 1]), state).logits.shape == (2, 9)


@pytest.mark.usefixtures("toys")
def test_mistakes_of_an_extension_have_a_message(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"encoder.weights='DEFAULT' does not exist for toy_encoder: expected a state"
    ):
        build_model(DECODERS["toy_decoder"](), EncoderConfig("toy_encoder"), 9)
    with pytest.raises(
        ConfigError, match=r"encoder.fine_tune_from='con' is not a block of toy_encoder. Did you mean c"
    ):
        build_model(DECODERS["toy_decoder"](), EncoderConfig("toy_encoder", weights=None, fine_tune_from="con"), 9)
    with pytest.raises(ConfigError, match=r"encoder.name='toy_encodr' does not exist. Did you mean toy_encoder"):
        build_model(DECODERS["toy_decoder"](), EncoderConfig("toy_encodr", weights=None), 9)
    decoder = build_model(DECODERS["toy_decoder"](), EncoderConfig("toy_encoder", weights=None), 9).decoder
    with pytest.raises(ConfigError, match=r"trainer.compile=true has no effect: .* ToyDecoder has none"):
        compile_steps(decoder, torch.device("cpu"))
    settings = DECODERS["attention"](attention="adaptive", cell="toy_cell", gate="none")  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"model.cell=toy_cell: the sentinel reads the cell's memory"):
        build_model(settings, EncoderConfig("toy_encoder", weights=None), 9)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("toys:NoDecoder", r"model.name=toy_decoder: the decoder toys:NoDecoder cannot be imported \(AttributeError"),
        ("no_such_toys:Decoder", r"the decoder no_such_toys:Decoder cannot be imported \(ModuleNotFoundError"),
        ("toys:ToyCell", r"model.name=toy_decoder: toys:ToyCell is not a captioner.nn.decoders.decoder.Decoder"),
    ],
)
@pytest.mark.usefixtures("toys")
def test_settings_that_name_no_decoder_say_so(monkeypatch: pytest.MonkeyPatch, reference: str, message: str) -> None:
    settings = DECODERS["toy_decoder"]()
    monkeypatch.setattr(type(settings), "decoder", reference)
    with pytest.raises(ConfigError, match=message):
        build_model(settings, EncoderConfig("toy_encoder", weights=None), 9)


def test_every_registry_has_the_documented_entry_point_group() -> None:
    registries: list[Registry[object]] = [DECODERS, ENCODERS, CELLS, DATASETS, METRICS]  # type: ignore[list-item]
    groups = [registry.group for registry in registries]
    assert groups == [f"captioner.{kind}" for kind in ("decoders", "encoders", "cells", "datasets", "metrics")]
    text = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
    assert all(f"`{group}`" in text for group in groups)
