"""`captioner import`: what it prints, what it writes, and what it says about a wrong file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.cli.evaluate import main as evaluate
from captioner.cli.import_checkpoint import default_name, main
from captioner.cli.train import main as train
from captioner.config import ENCODERS
from captioner.inference import Captioner
from tests.checkpoint.foreign.conftest import SMALL_ENCODERS, small_resnet
from tests.checkpoint.foreign.test_ruotianluo import write_sample as write_ruotianluo
from tests.checkpoint.foreign.test_yunjey import Encoder
from tests.checkpoint.foreign.test_yunjey import write_sample as write_yunjey
from tests.cli.conftest import Command
from tests.tiny import write_tiny_data


@pytest.fixture(autouse=True)
def small_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder with the samples' layers."""
    items = {**ENCODERS._items, **{name: SMALL_ENCODERS[name] for name in ("resnet_1111", "flat_20")}}
    monkeypatch.setattr(ENCODERS, "_items", items)


@pytest.fixture
def yunjey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The decoder of a tiny model, with its encoder and vocabulary beside it."""
    (tmp_path / "models").mkdir()
    return write_yunjey(tmp_path / "models", monkeypatch, Encoder(small_resnet(1, 1, 1, 1), 16))[0]


def test_the_run_folder_captions_photos(command: Command, yunjey: Path, tmp_path: Path) -> None:
    result = command(main, str(yunjey), "--from", "yunjey", "--encoder", "resnet_1111")
    assert result.code == 0, result.err
    assert result.out == (
        "Imported: Show and Tell of yunjey, 8 tokens, encoder resnet_1111\n"
        "Run folder: runs/decoder-1-2\n"
        "Caption a photo: python caption.py photo.jpg --checkpoint runs/decoder-1-2\n"
    )
    run = tmp_path / "runs/decoder-1-2"
    assert [path.name for path in run.parent.iterdir()] == ["decoder-1-2"]
    assert json.loads((run / "import.json").read_text())["project"] == "yunjey"
    caption = Captioner.from_checkpoint(run, "cpu").caption(torch.rand(3, 40, 30))
    assert set(caption.tokens) <= {"a", "dog", "runs", ".", "<UNK>"}


def test_nothing_is_overwritten(command: Command, yunjey: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    result = command(main, str(yunjey), "--from", "yunjey", "--encoder", "resnet_1111", "--out", "mine")
    assert result.code == 2
    assert result.err == "error: mine exists already, and nothing is overwritten: name another folder with --out.\n"
    assert not list((tmp_path / "mine").iterdir())


def test_the_wrong_project_is_answered_with_the_right_one(command: Command, yunjey: Path, tmp_path: Path) -> None:
    result = command(main, str(yunjey), "--from", "sgrvinod", "--out", "new/run")
    assert result.code == 2
    assert result.err.endswith("is no checkpoint of sgrvinod. It looks like one of yunjey: give --from yunjey.\n")
    path, _ = write_ruotianluo(tmp_path / "log", "newfc")
    result = command(main, str(path), "--from", "yunjey", "--out", "new/run")
    assert result.err.endswith("It looks like one of ruotianluo: give --from ruotianluo.\n")
    assert not (tmp_path / "new").exists()


def test_a_file_of_no_project_is_described(command: Command, tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    result = command(main, "linear.pth", "--from", "yunjey")
    assert result.code == 2
    assert "It has a dictionary (weight, bias) that no known project writes." in result.err
    result = command(main, "nothing.pth", "--from", "yunjey")
    assert result.err == "error: nothing.pth does not exist: expected a checkpoint file of another project.\n"


def test_a_model_without_an_encoder_takes_the_features_it_was_trained_on(command: Command, tmp_path: Path) -> None:
    """As `data.features`, in evaluation and in a training that starts from it."""
    path, _ = write_ruotianluo(tmp_path / "log", "att2in2")
    result = command(main, str(path), "--from", "ruotianluo")
    assert result.code == 0, result.err
    assert result.err.startswith("Note: It was trained on features made elsewhere")
    assert "Run folder: runs/log_model\n" in result.out
    assert "python evaluate.py checkpoint=runs/log_model data=… data.features=DIR\n" in result.out
    write_tiny_data(tmp_path / "data")
    (tmp_path / "regions").mkdir()
    generator = np.random.default_rng(0)
    for image in (tmp_path / "data").glob("*.png"):
        np.save(tmp_path / "regions" / f"{image.stem}.npy", generator.normal(size=(5, 18)).astype(np.float32))
    data = ["data=folder", "data.root=data", "data.features=regions", "metric.names=[Bleu,CIDEr]", "device=cpu"]
    result = command(evaluate, "checkpoint=runs/log_model", *data, "hydra.run.dir=scored")
    assert result.code == 0, result.err
    assert len(json.loads((tmp_path / "scored/captions_val.json").read_text())) == 8
    options = ["init_from=runs/log_model", "trainer.max_steps=2", "hydra.run.dir=runs/ours"]
    result = command(train, *data, *options)
    assert result.code == 0, result.err
    assert load_checkpoint(tmp_path / "runs/ours").settings.encoder.feature_dim == 18


def test_with_its_encoder_such_a_model_captions_photos(command: Command, tmp_path: Path) -> None:
    path, _ = write_ruotianluo(tmp_path / "log", "newfc")
    torch.save(nn.Conv2d(3, 20, 32).state_dict(prefix="conv."), "flat.pth")
    arguments = ["--from", "ruotianluo", "--encoder", "flat_20", "--encoder-weights", "flat.pth"]
    result = command(main, str(path), *arguments)
    assert result.code == 0, result.err
    assert result.err == ""
    assert "Caption a photo" in result.out
    assert Captioner.from_checkpoint("runs/log_model", "cpu").caption(torch.rand(3, 40, 30)).log_prob < 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "yunjei"], "Did you mean yunjey?"),
        ([], "--from is missing"),
        (["--from", "yunjey", "--vocab", "v"], "use --vocabulary"),
        (["--from", "sgrvinod", "--encoder-weights", "w.pth"], "has no effect with --from sgrvinod"),
    ],
)
def test_mistakes_have_a_message(command: Command, arguments: list[str], message: str) -> None:
    result = command(main, "model.pth", *arguments)
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("BEST_checkpoint_coco.pth.tar", "BEST_checkpoint_coco"),
        ("models/decoder-5-3000.ckpt", "decoder-5-3000"),
        ("log_fc/model-best.pth", "log_fc_model-best"),
    ],
)
def test_the_run_has_the_file_s_name(path: str, name: str) -> None:
    assert default_name(Path(path)) == name


def test_an_imported_run_is_evaluated_and_fine_tuned(command: Command, yunjey: Path, tmp_path: Path) -> None:
    """Batch normalization of the image, a vocabulary without most of the words, and Lanczos are kept."""
    write_tiny_data(tmp_path / "data", images=32)
    result = command(main, str(yunjey), "--from", "yunjey", "--encoder", "resnet_1111", "--out", "runs/theirs")
    assert result.code == 0, result.err
    data = ["data=folder", "data.root=data", "data.num_workers=0", "metric.names=[Bleu,CIDEr]", "device=cpu"]
    result = command(evaluate, "checkpoint=runs/theirs", *data, "hydra.run.dir=scored")
    assert result.code == 0, result.err
    assert len(json.loads((tmp_path / "scored/captions_val.json").read_text())) == 8
    options = ["init_from=runs/theirs", "trainer.max_epochs=1", "trainer.batch_size=5", "hydra.run.dir=runs/ours"]
    result = command(train, *data, *options)
    assert result.code == 0, result.err
    theirs, ours = load_checkpoint(tmp_path / "runs/theirs"), load_checkpoint(tmp_path / "runs/ours")
    assert ours.vocabulary == theirs.vocabulary
    assert ours.settings.transform == theirs.settings.transform
    assert ours.settings.transform.interpolation == "lanczos"
    moved = ours.model.decoder.image.batch_norm.running_mean - theirs.model.decoder.image.batch_norm.running_mean
    assert bool(moved.abs().max() > 0)
