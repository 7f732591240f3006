"""Every file of conf/ composes, builds, trains a step, decodes, and gives the same captions when it is loaded."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from captioner.training.resume import save, using_ema_weights
from captioner.training.setup import prepare
from captioner.training.step import train_step, training_batches
from tests.cli.conftest import SMALL, Command
from tests.data.datasets.cocotalk_files import write_cocotalk
from tests.data.tiny import write_coco, write_flickr8k, write_flickr30k
from tests.tiny import ENCODER, write_tiny_data

COMMANDS = {
    "train",
    "evaluate",
    "language_model",
}  # commands start from these; each has its own tests
QUICK = {"encoder=efficientnet_lite0", "encoder=torchvision", "encoder=timm"}  # the other encoders are slow
FILES = sorted(CONF.rglob("*.yaml"))
NEEDS = {"attention": "model=attention "}
"""Groups whose choices go with some models only."""
CHOICES = [
    f"{NEEDS.get(path.parent.name, '')}{path.parent.name}={path.stem}"
    for path in FILES
    if path.parent != CONF and path != CONF / "encoder" / "none.yaml"  # it reads no images; it has its own tests
]
COMBINATIONS = [
    *(f"model=lstm cell={cell} injection={way}" for cell, way in [("gru", "init"), ("mut1", "pre"), ("rnn", "merge")]),
    "model=lstm cell=lstm_full_gate_recurrence injection=init model.layers=2 model.residual=true",
    "model=lrcn injection=first cell=rnn_relu",
    "model=show_and_tell model.image_projection=batch_norm",
    "model=attention model.score=additive_relu model.initial_state=linear model.output=hidden encoder.grid_size=4",
    "model=neuraltalk model.tie_embeddings=true",
    "model=attention cell=lstm_full_gate_recurrence model.layers=2 model.residual=true",
    "model=attention cell=mut3 model.gate=vector",
    "model=mrnn cell=lstm_peephole model.layers=2",
    "model=chen_zitnick cell=gru model.layers=2 model.residual=true",
]
SEARCHES = ("greedy", "sample", "beam", "diverse", "contrastive")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data for all cases, in every format, and the feature cache of its images."""
    folder = tmp_path_factory.mktemp("every_config")
    data = write_tiny_data(folder / "folder", images=32)
    for split in ("train", "val"):
        pack_shards(load_dataset(data, split), folder / "shards", 8)
    write_coco(folder / "coco")
    write_flickr8k(folder / "flickr8k")
    write_flickr30k(folder / "flickr30k" / "dataset_flickr30k.json")
    if importlib.util.find_spec("h5py") is not None:
        write_cocotalk(folder / "cocotalk")
    return folder


def options(case: str, shared: Path) -> list[str]:
    """Command-line options of the case, with those that make it small."""
    chosen = case.split()
    groups = {option.split("=")[0]: option.split("=")[1] for option in chosen}
    small = [option for option in SMALL if not option.startswith(("data", "encoder"))]
    small += ["trainer.max_steps=1", "trainer.batch_size=2", "decode.max_length=6", f"cache.directory={shared}/cache"]
    if groups.get("reward") == "cider" or groups.get("experiment") in ("flickr8k", "coco"):
        small = [option for option in small if not option.startswith(("trainer.max_epochs", "trainer.max_steps"))]
        small += ["trainer.max_epochs=2", "reward.after=1", "reward.samples=2"]  # the RL phase starts after one epoch
    if groups.get("experiment") in ("flickr8k", "coco"):
        small += ["encoder.fine_tune_after=1", "augment.after=1"]
    if groups.get("experiment") == "coco":
        small += ["encoder.fine_tune_from=features.6", "trainer.precision=float32"]
        small += ["data.karpathy=null", "trainer.evaluate_splits=[val]", "trainer.gradient_accumulation_steps=1"]
    encoder = groups.get("encoder", "efficientnet_lite0" if needs_classifier(groups) else "torchvision")
    data = groups.get("data", "coco" if groups.get("experiment") == "coco" else "folder")
    if data == "cocotalk":
        pytest.importorskip("h5py")
    if data == "scenes":
        sizes = [f"data.{split}_size=8" for split in ("train", "val", "test")]
        small += sizes
    else:
        small.append(f"data.root={shared / data}")
    small += ["data.num_workers=0", *([] if needs_classifier(groups) else ["encoder.weights=null"])]
    if encoder == "torchvision":
        small.append(f"encoder.name={ENCODER.name}")
    if encoder == "timm":
        pytest.importorskip("timm")
        small.append("encoder.name=test_vit")
    if groups.get("tokenizer") == "bpe":
        pytest.importorskip("sentencepiece")
    small.append(f"encoder.image_size={96 if encoder == 'inception_v3' else 64}")
    return [
        f"data={data}",
        f"encoder={encoder}",
        *(o for o in chosen if not o.startswith(("data=", "encoder="))),
        *small,
    ]


def needs_classifier(groups: dict[str, str]) -> bool:
    """Whether the model reads ImageNet's classes, by the published classifier of its encoder."""
    return groups.get("model") == "semantic_attention"


def captions_by_every_search(captioner: Captioner, images: list[bytes], config: TrainConfig) -> list[tuple[str, float]]:
    """The captions of all images, encoded once, by all searches, with their log-probabilities."""
    captions = []
    encode, encoded = captioner._encode, dict[bool, Any]()

    def encode_once(loaded: Any, *, classify: bool) -> Any:
        if classify not in encoded:
            encoded[classify] = encode(loaded, classify=classify)
        return encoded[classify]

    captioner._encode = encode_once  # type: ignore[method-assign]
    for search in SEARCHES:
        groups = config.decode.beam_width if search == "diverse" else config.decode.groups  # which divides it
        decode = replace(config.decode, name=search, groups=groups)
        captions += captioner.caption(list(images), decode=decode)
    return [(caption.text, caption.log_prob) for caption in captions]


def check_case(case: str, shared: Path, folder: Path) -> None:
    config = compose_train_settings(options(case, shared))
    folder.mkdir()
    run = prepare(config, folder)
    run.model.train()
    losses = train_step(run, next(training_batches(run)))
    assert math.isfinite(losses["loss"])
    assert losses["gradient_norm"] > 0
    with RunLog(folder) as log:
        save(run, log, is_best=True)
    images = [image.path.read_bytes() for image in run.val_set][:2]
    settings, learned = run.checkpoint_settings, run.tokenizer.model
    trained = LoadedCheckpoint(folder, run.model.eval(), run.vocabulary, settings, learned)
    with using_ema_weights(run):  # a checkpoint stores the averaged weights
        captions = captions_by_every_search(Captioner(trained, torch.device("cpu")), images, config)
    assert len(captions) == len(SEARCHES) * len(images)
    assert captions_by_every_search(Captioner.from_checkpoint(folder, "cpu"), images, config) == captions


def marks(case: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if case.startswith("encoder=") and case not in QUICK else []


@pytest.mark.parametrize("case", [pytest.param(case, marks=marks(case)) for case in [*CHOICES, *COMBINATIONS]])
def test_it_trains_decodes_saves_and_loads(case: str, shared: Path, tmp_path: Path) -> None:
    check_case(case, shared, tmp_path / "run")


def test_every_file_of_conf_is_tested() -> None:
    assert {path.stem for path in FILES if path.parent == CONF} == COMMANDS
    assert all(path.parent.parent == CONF for path in FILES if path.parent != CONF)


@pytest.mark.parametrize("model", ["mrnn", "chen_zitnick"])
def test_injection_is_rejected_by_a_model_without_that_setting(command: Command, model: str) -> None:
    result = command(main, f"model={model}", "injection=pre", "hydra.run.dir=run")
    assert result.code == 2
    assert "injection=pre does not fit the chosen model" in result.err
    assert not Path("run").exists()
