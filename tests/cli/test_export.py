"""`captioner export`: a run becomes a small folder or file that gives the same captions."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.cli.caption import main as caption
from captioner.cli.export import main
from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.repro_command import training_command
from captioner.cli.runs import main as runs
from captioner.config import AttentionConfig, FolderConfig, TrainConfig
from captioner.errors import CheckpointError
from captioner.inference import Captioner
from tests.cli.conftest import Command, Outcome, SmallRun


@pytest.fixture
def here(small_run: SmallRun, tmp_path: Path) -> Path:
    """The working folder, with data/ and a finished run in runs/first."""
    small_run("runs/first", "model=lstm")
    return tmp_path


def output_of(result: Outcome) -> str:
    assert result.code == 0, result.err
    return result.out


def test_a_folder_and_an_archive_caption_as_the_run_does(
    here: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "notes.md").write_text("It takes blue for black.\n")
    expected = output_of(command(caption, "data/003.png", "--checkpoint", "runs/first"))
    assert "Written: small (" in output_of(
        command(main, "--checkpoint", "runs/first", "--out", "small", "--notes", "notes.md")
    )
    monkeypatch.setattr("captioner.cli.repro_command.training_command", lambda settings: "")  # once is enough
    assert "Written: small.zip (" in output_of(command(main, "--checkpoint", "runs/first", "--out", "small.zip"))
    for checkpoint in ("small", "small.zip", "small/checkpoints/step-00000001"):
        if not Path(checkpoint).exists():
            checkpoint = str(next(Path("small/checkpoints").glob("step-*")))
        assert output_of(command(caption, "data/003.png", "--checkpoint", checkpoint)) == expected
    text = Captioner.from_checkpoint("runs/first", "cpu").caption("data/003.png").text
    for path in ("small", "small.zip"):
        assert Captioner.pretrained(path, "cpu").caption("data/003.png").text == text
    card = (here / "small" / "MODEL_CARD.md").read_text()
    assert "It takes blue for black." in card
    assert "Bleu_4" in card
    assert "python train.py model=lstm data=folder" in card
    everything = "".join(path.read_text(errors="replace") for path in (here / "small").rglob("*") if path.is_file())
    assert "data.root=data" not in everything
    assert str(here) not in everything
    assert json.loads((here / "small/metrics.json").read_text()) == json.loads(
        (here / "runs/first/metrics.json").read_text()
    )
    shutil.copytree("small", "runs/shared")
    assert "shared" in output_of(command(runs))


def test_no_scores_of_another_step_are_exported(here: Path, command: Command) -> None:
    """A run's scores are those of its best checkpoint; an earlier or a later one has none."""
    (folder,) = Path("runs/first/checkpoints").glob("step-*")
    metrics = json.loads(Path("runs/first/metrics.json").read_text())
    assert metrics["run"]["best_step"] == int(folder.name.removeprefix("step-"))
    other = folder.with_name(f"step-{metrics['run']['best_step'] + 7:08d}.2")
    shutil.copytree(folder, other)
    result = command(main, "--checkpoint", str(other), "--out", "other")
    assert result.code == 0, result.err
    assert f"those in the run are of step {metrics['run']['best_step']}" in result.err
    assert f"python evaluate.py checkpoint={other}" in result.err
    card = Path("other/MODEL_CARD.md").read_text()
    assert "No scores were stored" in card
    assert "The weights are those of step" not in card
    assert not Path("other/metrics.json").exists()


@pytest.mark.parametrize(("weight", "scored"), [(3, True), (2, False)])
@pytest.mark.parametrize("out", ["photos", "photos.zip"])
def test_no_scores_without_classes_are_exported_with_classes(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, weight: int, scored: bool, out: str
) -> None:
    """The bundled model was scored with its class words and class_weight=3."""
    monkeypatch.chdir(tmp_path)
    result = command(main, "--checkpoint", "flickr8k", "--out", out, "--class-words", str(weight))
    assert result.code == 0, result.err
    assert ("Without scores" in result.err) is not scored
    assert ("python evaluate.py checkpoint=photos data.root=DIR" in result.err) is not scored
    if out == "photos":
        assert Path("photos/metrics.json").exists() is scored
        assert ("No scores were stored" in Path("photos/MODEL_CARD.md").read_text()) is not scored


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "runs/frist", "--out", "x"], "Did you mean runs/first"),
        (["--checkpoint", "runs/first", "--out", "x.rar"], "or a name that ends in .tar.gz"),
        (["--checkpoint", "runs/first", "--out", "data"], "data exists already"),
        (["--checkpoint", "runs/first", "--out", "data", "--replace"], "data is not an export"),
        (["--checkpoint", "runs/first", "--out", "no/where"], "does not exist"),
        (["--checkpoint", "runs/first", "--out", "x", "--max-megabytes", "0.001"], "take at least"),
        (["--checkpoint", "runs/first", "--out", "x", "--max-megabytes", "-1"], "expected a size such as 12"),
        (["--checkpoint", "runs/first", "--out", "x", "--int8", "encoder"], "--int8"),
        (["--checkpoint", "runs/first", "--out", "x", "--int8", "--float32"], "leave one of the two out"),
        (["--checkpoint", "runs/first", "--onnx", "x", "--int8"], "--int8 has no effect with --onnx"),
        (["--checkpoint", "runs/first", "--out", "x", "--notes", "none.md"], "none.md: No such file"),
        (["--checkpoint", "runs/first", "--out", "x", "--notes", "data/003.png"], "is not UTF-8 text"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_a_mistake_is_one_clear_message(here: Path, command: Command, arguments: list[str], message: str) -> None:
    result = command(main, *arguments)
    assert result.code == 2, result.err
    assert message in result.err
    assert not Path("x").exists()


@pytest.mark.usefixtures("quick")
def test_8_bits_for_the_decoder_or_for_all(here: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.checkpoint.weights._FEWEST_VALUES", 64)
    monkeypatch.setattr("captioner.checkpoint.weights._SHORTEST_ROW", 8)
    sizes = {}
    for name, options in {"half": (), "decoder": ("--int8",), "all": ("--int8", "all")}.items():
        result = command(main, "--checkpoint", "runs/first", "--out", name, *options)
        assert result.code == 0, result.err
        sizes[name] = next((here / name).rglob("model.safetensors")).stat().st_size
        assert ("In 8 bits: " in result.err) == (name != "half")
        assert ("In 8 bits: encoder." in result.err or ", encoder." in result.err) == (name == "all")
        card = (here / name / "MODEL_CARD.md").read_text()
        assert ("in 8 bits with one scale per row" in card) == (name != "half")
        assert Captioner.from_checkpoint(name, "cpu").caption("data/003.png").tokens
    assert sizes["all"] < sizes["decoder"] < sizes["half"]


@pytest.mark.usefixtures("quick")
def test_an_archive_is_not_replaced_by_accident(here: Path, command: Command) -> None:
    Path("mine.zip").write_bytes(b"mine")
    assert command(main, "--checkpoint", "runs/first", "--out", "mine.zip").code == 2
    assert Path("mine.zip").read_bytes() == b"mine"
    output_of(command(main, "--checkpoint", "runs/first", "--out", "mine.zip", "--replace"))
    with pytest.raises(CheckpointError, match="is an archive: unpack it"):
        load_checkpoint(Path("mine.zip"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["model=attention", "data=flickr8k", "decode.beam_width=5"],
        ["model=gru", "data=coco", "encoder=resnet50", "trainer.evaluate_splits=[val,test]", "trainer.patience=null"],
        ["experiment=demo"],
    ],
)
def test_the_command_on_the_card_gives_the_same_settings(options: list[str]) -> None:
    settings = compose_train_settings([*options, "seed=3"])
    command = training_command(settings)
    assert command.startswith("python train.py " + " ".join(options[:1]))
    again = compose_train_settings([word for word in shlex.split(command)[2:] if word != "data.root=DIR"])
    assert again == settings
    assert len(command.split()) <= len(options) + 5


def test_the_command_of_a_run_on_features_made_elsewhere() -> None:
    """It names them, and no encoder. The experiment of another data set is not in the way."""
    settings = TrainConfig(model=AttentionConfig(), data=FolderConfig(features="somewhere/cocobu_att"))
    command = training_command(settings)
    assert command.startswith("python train.py model=attention data=folder data.features=DIR")
    assert "encoder" not in command
