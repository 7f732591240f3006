"""metric.grounding from the shell: trained with it, evaluated with it, and asked for where it cannot be had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.cli.evaluate import main
from captioner.cli.train import main as train
from tests.cli.conftest import SMALL, Command
from tests.data.tiny import coco_captions, write_json

COCO = ("data=coco", "data.root=coco", "data.num_workers=0")
TRAIN = (*SMALL[3:], *COCO, "encoder.name=squeezenet1_1", "model=attention", "model.attention_dim=4")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Noise with a bright left or right half, which is a dog; its box is exactly that half."""
    generator = np.random.default_rng(0)
    for part, ids in {"train": range(1, 9), "val": range(9, 15)}.items():
        folder = tmp_path / "coco" / f"{part}2017"
        folder.mkdir(parents=True)
        boxes = []
        for image_id in ids:
            pixels = generator.integers(0, 90, (32, 48, 3)).astype(np.uint8)
            left = 24 * (image_id % 2)
            pixels[:, left : left + 24] += 150
            Image.fromarray(pixels).save(folder / f"{image_id}.png")
            boxes.append({"image_id": image_id, "category_id": 18, "bbox": [left, 0, 24, 32]})
        captions = {image_id: ["a dog", "one big dog"] for image_id in ids}
        annotations = tmp_path / "coco" / "annotations"
        write_json(annotations / f"captions_{part}2017.json", coco_captions(captions, "{}.png".format))
        instances = {"categories": [{"id": 18, "name": "dog"}], "annotations": boxes}
        write_json(annotations / f"instances_{part}2017.json", instances)
    return tmp_path / "coco"


def test_training_and_evaluation_report_it(command: Command, coco: Path) -> None:
    result = command(train, *TRAIN, "metric.grounding=references", "hydra.run.dir=run")
    assert result.code == 0, result.err
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["Grounding_uniform"] == pytest.approx(0.5)
    assert metrics["grounding"]["words"] == 12
    low, high = metrics["intervals"]["Grounding"]
    assert 0 <= low <= metrics["Grounding"] <= high <= 1
    assert "uniform: the boxes' area" in result.out
    names = "metric.names=[CIDEr]"
    again = command(main, "checkpoint=run", "metric.grounding=references", names, "device=cpu", "hydra.run.dir=again")
    assert again.code == 0, again.err
    assert json.loads(Path("again/metrics.json").read_text())["Grounding"] == metrics["Grounding"]


def test_hard_attention_may_look_otherwise_than_it_was_trained_to(command: Command, coco: Path) -> None:
    """The same checkpoint by the mean of all cells, and by cells that are drawn, anew for another seed."""
    assert command(train, *TRAIN, "attention=hard", "hydra.run.dir=run").code == 0
    common = ("checkpoint=run", "metric.grounding=references", "metric.names=[CIDEr]", "device=cpu")
    found = set()
    for number, more in enumerate([(), ("hard_at_test=sample",), ("hard_at_test=sample", "decode.seed=1")]):
        result = command(main, *common, *more, f"hydra.run.dir=look{number}")
        assert result.code == 0, result.err
        found.add(json.loads(Path(f"look{number}/metrics.json").read_text())["Grounding"])
    assert len(found) == 3
    assert command(main, *common, "hard_at_test=draw").code == 2
    assert command(train, *TRAIN, "hydra.run.dir=soft").code == 0
    result = command(main, "checkpoint=soft", "hard_at_test=sample", "device=cpu")
    assert result.code == 2
    assert "needs a model with hard attention" in result.err


def test_captions_that_name_nothing_are_scored_all_the_same(command: Command, coco: Path) -> None:
    """A training that has taken hours ends with its scores; grounding alone is unavailable."""
    path = coco / "annotations/instances_val2017.json"
    instances = json.loads(path.read_text())
    write_json(path, instances | {"categories": [{"id": 18, "name": "zebra"}]})  # no caption names one
    result = command(train, *TRAIN, "metric.grounding=references", "hydra.run.dir=run")
    assert result.code == 0, result.err
    assert "Grounding unavailable: Grounding needs words that name an object" in result.out
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert "CIDEr" in metrics
    assert "Grounding" not in metrics
    assert "two images or more" in metrics["unavailable"]["Grounding"]


def test_without_boxes_or_a_checkpoint_it_says_what_is_missing(command: Command, coco: Path) -> None:
    (coco / "annotations/instances_val2017.json").unlink()
    result = command(train, *TRAIN, "metric.grounding=generated", "hydra.run.dir=run")
    assert result.code == 2
    assert "instances_*.json beside the captions" in result.err
    assert not Path("run").exists()
    result = command(main, *COCO, "results=x.json", "metric.grounding=generated")
    assert result.code == 2
    assert "a file of captions has no attention weights" in result.err
