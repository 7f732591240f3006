"""Every file of conf/model through every command: it works, or it declines with the reason, as its settings declare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.cli.caption import main as caption
from captioner.cli.cells import main as cells
from captioner.cli.choices import CONF
from captioner.cli.doctor import main as doctor
from captioner.cli.evaluate import main as evaluate
from captioner.cli.export import main as export
from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.retrieve import main as retrieve
from captioner.cli.train import main as train
from captioner.training.logs import read_records
from tests.cli.conftest import SMALL, Command, Outcome
from tests.data.tiny import coco_captions, write_json

MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
SLOW = {"gru", "lrcn", "lrcn_unfactored", "lstm", "neuraltalk", "no_attention", "show_and_tell"}
"""Other settings of the decoder of rnn.yaml, or of attention.yaml."""


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with a bright left or right half, which is a dog and has a box; and the cache of their features."""
    folder = tmp_path_factory.mktemp("every_model")
    generator = np.random.default_rng(0)
    for part, ids in {"train": range(1, 9), "val": range(9, 13)}.items():
        images = folder / "coco" / f"{part}2017"
        images.mkdir(parents=True)
        boxes = []
        for image_id in ids:
            pixels = generator.integers(0, 90, (32, 48, 3)).astype(np.uint8)
            left = 24 * (image_id % 2)
            pixels[:, left : left + 24] += 150
            Image.fromarray(pixels).save(images / f"{image_id}.png")
            boxes.append({"image_id": image_id, "category_id": 18, "bbox": [left, 0, 24, 32]})
        sides = {image_id: ("right", "left")[image_id % 2 == 0] for image_id in ids}
        captions = {image_id: [f"a dog on the {side}", f"the {side} is a dog"] for image_id, side in sides.items()}
        annotations = folder / "coco" / "annotations"
        write_json(annotations / f"captions_{part}2017.json", coco_captions(captions, "{}.png".format))
        instances = {"categories": [{"id": 18, "name": "dog"}], "annotations": boxes}
        write_json(annotations / f"instances_{part}2017.json", instances)
    return folder


def settings_of(coco: Path, model: str) -> list[str]:
    """Options of eight short epochs, after which most models write captions; `SMALL` has the size."""
    data = ["data=coco", f"data.root={coco}/coco", "data.num_workers=0"]
    small = [option for option in SMALL if not option.startswith(("data", "trainer"))]
    small += ["trainer.max_epochs=8", "trainer.validate_every=8", "trainer.log_every=1", "trainer.patience=null"]
    small += ["decode.min_length=2", "decode.max_length=6"]  # whatever was learned, there are words to show
    small += ["optim.learning_rate=0.02", "optim.warmup_steps=2"]
    cache = f"cache.directory={coco}/cache"
    if model == "semantic_attention":  # it reads the classes of the published classifier
        small = [option for option in small if not option.startswith(("encoder=", "encoder.name", "encoder.weights"))]
        encoder = ["encoder=efficientnet_lite0", "encoder.weights=DEFAULT"]
    else:
        encoder = ["encoder.name=squeezenet1_1"]
    return [*small, *data, *encoder, cache, "trainer.batch_size=4", f"model={model}"]


def succeeds(result: Outcome) -> str:
    assert result.code == 0, result.err
    return result.out


def declines(result: Outcome, reason: str) -> None:
    """Exit code 2 and one message that has the reason."""
    assert result.code == 2, result.out
    assert reason in result.err
    assert "Traceback" not in result.err


def trained(command: Command, options: list[str], model: Any) -> None:
    """Train to `run`, with an epoch of self-critical training and with grounding where the model declares so."""
    rewards = ["reward=cider", "reward.after=6", "reward.samples=2", "reward.bleu=1"]
    grounding = "metric.grounding=references"
    if model.samples_attention:
        declines(command(train, *options, *rewards, "hydra.run.dir=no"), "model.attention=hard")
        rewards = []
    if not model.attends:
        declines(command(train, *options, grounding, "hydra.run.dir=no"), "a decoder with attention")
    assert not Path("no").exists()
    options = [*options, *rewards, *([grounding] if model.attends else [])]
    succeeds(command(train, *options, "hydra.run.dir=run"))
    assert ("Grounding" in json.loads(Path("run/metrics.json").read_text())) == model.attends
    assert any("reward" in record for record in read_records(Path("run"))) == bool(rewards)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in MODELS],
)
def test_every_command_works_or_says_why_not(
    name: str, coco: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioner.cli.repro_command.training_command", lambda settings: "")  # has its own tests
    options = settings_of(coco, name)
    model = compose_train_settings(options).model
    trained(command, options, model)
    decoder: Any = load_checkpoint(Path("run")).model.decoder
    assert (decoder.attends, decoder.samples_attention) == (model.attends, model.samples_attention)

    image = str(coco / "coco" / "val2017" / "9.png")
    text = succeeds(command(caption, image, "--checkpoint", "run", "--plot", "maps.png"))
    assert Path("maps.png").is_file()
    common = ["checkpoint=run", "metric.names=[CIDEr]", "device=cpu", f"cache.directory={coco}/cache"]
    succeeds(command(evaluate, *common, "report=true", "hydra.run.dir=scored"))
    page = Path("scored/report.html").read_text()
    assert ("attention" in page.lower()) == decoder.attends
    grounded = command(evaluate, *common, "metric.grounding=references", "hydra.run.dir=grounded")
    if decoder.attends:
        succeeds(grounded)
    else:
        declines(grounded, "a decoder with attention")

    checked = command(doctor, "--checkpoint", "run", "--images", "4", "--device", "cpu", "--json")
    assert checked.code in (0, 1), checked.err
    findings = {finding["check"]: finding for finding in json.loads(checked.out)}
    assert len(findings) == 11
    found = json.loads(succeeds(command(retrieve, "--checkpoint", "run", "--device", "cpu", "--json")))
    assert found["captions"] == 8
    by_features = command(retrieve, "--checkpoint", "run", "--device", "cpu", "--by", "features", "--json")
    if decoder.reconstructs_features:
        succeeds(by_features)
    else:
        declines(by_features, "chen_zitnick")
    succeeds(command(export, "--checkpoint", "run", "--float32", "--out", "small.zip"))
    assert succeeds(command(caption, image, "--checkpoint", "small.zip")).split(":")[-1] == text.split(":")[-1]
    units = command(cells, "--checkpoint", "run", "--property", "position", "--images", "4")
    if model.cell == "none":
        declines(units, "has no RNN cell")
    elif units.code:
        declines(units, "generates an empty caption")  # it was hardly trained
    else:
        assert Path("run/cells/units.md").is_file()
