"""Every file of conf/: it composes, builds, trains a step, decodes by every search, and says the same after loading."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.cli.choices import CONF
from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.train import main
from captioner.config import TrainConfig
from captioner.data.datasets.registry import load_dataset
from captioner.data.datasets.tar_shards.pack import pack_shards
from captioner.inference import Captioner
from captioner.training.logs import RunLog
from captioner.training.resume import averaged, save
from captioner.training.setup import prepare
from captioner.training.step import train_step, training_batches
from tests.cli.conftest import SMALL, Command
from tests.data.tiny import write_coco, write_flickr8k, write_flickr30k
from tests.tiny import ENCODER, write_tiny_data

COMMANDS = {"train", "evaluate", "language_model"}  # what a command starts from: each has a test file of its own
QUICK = {"encoder=efficientnet_lite0", "encoder=torchvision"}  # the other encoders take more than a moment
FILES = sorted(CONF.rglob("*.yaml"))
NEEDS = {"attention": "model=attention "}
"""Groups whose choices go with some models only."""
CHOICES = [f"{NEEDS.get(path.parent.name, '')}{path.parent.name}={path.stem}" for path in FILES if path.parent != CONF]
COMBINATIONS = [
    *(f"model=lstm cell={cell} injection={way}" for cell, way in [("gru", "init"), ("mut1", "pre"), ("rnn", "merge")]),
    "model=lstm cell=lstm_full_gate_recurrence injection=init model.layers=2 model.residual=true",
    "model=lrcn injection=first cell=rnn_relu",
    "model=neuraltalk model.tie_embeddings=true",
    "model=attention cell=lstm_full_gate_recurrence model.layers=2 model.residual=true",
    "model=attention cell=mut3 model.gate=vector",
    "model=mrnn cell=lstm_peephole model.layers=2",
    "model=chen_zitnick cell=gru model.layers=2 model.residual=true",
]
SEARCHES = ("greedy", "sample", "beam")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the data of all cases is, in every format that is read, and the features of its images."""
    folder = tmp_path_factory.mktemp("every_config")
    data = write_tiny_data(folder / "folder", images=32)
    for split in ("train", "val"):
        pack_shards(load_dataset(data, split), folder / "shards", 8)
    write_coco(folder / "coco")
    write_flickr8k(folder / "flickr8k")
    write_flickr30k(folder / "flickr30k" / "dataset_flickr30k.json")
    return folder


def options(case: str, shared: Path) -> list[str]:
    """The case with all that makes it small, as a person would write it."""
    chosen = case.split()
    groups = {option.split("=")[0]: option.split("=")[1] for option in chosen}
    small = [option for option in SMALL if not option.startswith(("data", "encoder"))]
    small += ["trainer.max_steps=1", "trainer.batch_size=2", "decode.max_length=6", f"cache.directory={shared}/cache"]
    if groups.get("reward") == "cider" or groups.get("experiment") == "flickr8k":
        small = [option for option in small if not option.startswith(("trainer.max_epochs", "trainer.max_steps"))]
        small += ["trainer.max_epochs=2", "reward.after=1", "reward.samples=2"]  # the second stage after one epoch
    if groups.get("experiment") == "flickr8k":
        small += ["encoder.fine_tune_after=1", "augment.after=1"]
    data = groups.get("data", "folder")
    if data == "scenes":
        sizes = [f"data.{split}_size=8" for split in ("train", "val", "test")]
        small += sizes
    else:
        small.append(f"data.root={shared / data}")
    small += ["data.num_workers=0", "encoder.weights=null"]
    encoder = groups.get("encoder", "torchvision")
    if encoder == "torchvision":
        small.append(f"encoder.name={ENCODER.name}")
    small.append(f"encoder.image_size={96 if encoder == 'inception_v3' else 64}")
    return [
        f"data={data}",
        f"encoder={encoder}",
        *(o for o in chosen if not o.startswith(("data=", "encoder="))),
        *small,
    ]


def say(captioner: Captioner, images: list[bytes], config: TrainConfig) -> list[tuple[str, float]]:
    """Every image's caption by every search, with its log-probability."""
    captions = []
    for search in SEARCHES:
        captions += captioner.caption(list(images), decode=replace(config.decode, name=search))
    return [(caption.text, caption.log_prob) for caption in captions]


def try_out(case: str, shared: Path, folder: Path) -> None:
    config = compose_train_settings(options(case, shared))
    folder.mkdir()
    run = prepare(config, folder)
    run.model.train()
    figures = train_step(run, next(training_batches(run)))
    assert math.isfinite(figures["loss"])
    assert figures["gradient_norm"] > 0
    with RunLog(folder) as log:
        save(run, log, is_best=True)
    images = [image.path.read_bytes() for image in run.val_set][:2]
    trained = LoadedCheckpoint(folder, run.model.eval(), run.vocabulary, run.checkpoint_settings)
    with averaged(run):  # as a checkpoint holds the weights
        said = say(Captioner(trained, torch.device("cpu")), images, config)
    assert len(said) == len(SEARCHES) * len(images)
    assert say(Captioner.from_checkpoint(folder, "cpu"), images, config) == said


def marks(case: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if case.startswith("encoder=") and case not in QUICK else []


@pytest.mark.parametrize("case", [pytest.param(case, marks=marks(case)) for case in [*CHOICES, *COMBINATIONS]])
def test_it_trains_decodes_saves_and_loads(case: str, shared: Path, tmp_path: Path) -> None:
    try_out(case, shared, tmp_path / "run")


def test_no_file_of_conf_is_left_out() -> None:
    assert {path.stem for path in FILES if path.parent == CONF} == COMMANDS
    assert all(path.parent.parent == CONF for path in FILES if path.parent != CONF)


@pytest.mark.parametrize("model", ["mrnn", "chen_zitnick"])
def test_where_the_image_enters_is_refused_by_a_model_that_says_so_itself(command: Command, model: str) -> None:
    result = command(main, f"model={model}", "injection=pre", "hydra.run.dir=run")
    assert result.code == 2
    assert "injection=pre does not go with the model" in result.err
    assert not Path("run").exists()
