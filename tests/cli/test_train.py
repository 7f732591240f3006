"""train.py from the shell: a run, a sweep, a resumed run, and every kind of mistake."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import pytest

from captioner.cli import train_job
from captioner.cli.choices import CONF
from captioner.cli.evaluate import main as evaluate
from captioner.cli.train import main
from captioner.cli.train_job import print_result
from captioner.config import FolderConfig
from captioner.evaluation.evaluation import Evaluation
from captioner.metrics import score
from captioner.training.logs import read_records
from captioner.training.loop import TrainingResult
from captioner.training.signals import Interrupted
from tests.cli.conftest import SMALL, Command, SmallRun


def test_a_run_ends_with_a_table_and_the_next_command(command: Command, tiny: FolderConfig) -> None:
    result = command(main, *SMALL, "model=attention", "hydra.run.dir=run")
    assert result.code == 0, result.err
    assert "Bleu_4" in result.out
    assert "python caption.py photo.jpg --checkpoint run" in result.out
    assert {"metrics.json", "captions_val.json", "config.yaml", "log.txt", "log.jsonl", "log.csv", "checkpoints"} == {
        path.name for path in Path("run").iterdir()
    }


def test_default_run_folder_is_named_after_model_and_data(command: Command, tiny: FolderConfig) -> None:
    assert command(main, *SMALL, "model=gru").code == 0
    (folder,) = Path("runs").glob("*_folder")
    assert folder.name.endswith("_gru_folder")


def test_a_sweep_ends_in_one_table(command: Command, tiny: FolderConfig) -> None:
    result = command(main, *SMALL, "-m", "model=rnn,gru", "hydra.sweep.dir=sweep")
    assert result.code == 0, result.err
    table = Path("sweep/sweep.md").read_text()
    assert table in result.out
    assert table.count("\n") == 4  # a header, a rule and two runs
    assert Path("sweep/sweep.csv").read_text().count("\n") == 3
    assert {path.name for path in Path("sweep").iterdir() if path.is_dir()} == {"0_rnn_folder", "1_gru_folder"}


def test_a_failing_run_does_not_stop_the_sweep(command: Command, tiny: FolderConfig) -> None:
    result = command(main, *SMALL, "-m", "model.cell=rnm,gru", "hydra.sweep.dir=sweep")
    assert result.code == 2
    assert "Did you mean rnn" in result.err
    assert len(list(Path("sweep").glob("*/metrics.json"))) == 1


def test_a_sweep_repeats_no_run(command: Command, tiny: FolderConfig) -> None:
    """The command line has the last word: with model.cell=gru, two models are one."""
    result = command(main, *SMALL, "-m", "model=rnn,lstm", "model.cell=gru", "--dry-run", "hydra.sweep.dir=sweep")
    assert result.code == 2
    assert result.out.count("Nothing stops this run.") == 1
    assert (
        "model=lstm has no effect: this sweep had a run with the same settings (model=rnn), so it is not repeated. "
        "Leave out what fixes the settings that the sweep varies: model.embedding_dim=8 model.hidden_dim=8 "
        "model.cell=gru."
    ) in result.err


@pytest.mark.parametrize(("first", "code"), [("gru", 0), ("rnm", 2)])
def test_a_stopped_sweep_says_that_it_is_not_finished(
    command: Command, tiny: FolderConfig, monkeypatch: pytest.MonkeyPatch, first: str, code: int
) -> None:
    """SIGTERM in a run ends with 0, as that of a single run does, unless a run before it has failed."""

    def stopped(*arguments: object, **options: object) -> None:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(train_job, "train_in_folder", stopped)
    result = command(main, *SMALL, "-m", f"model.cell={first},lstm,rnn", "hydra.sweep.dir=sweep")
    assert result.code == code
    assert result.err.count("The sweep is stopped: no further run of it is started.") == 1
    assert ("Did you mean rnn" in result.err) == (first == "rnm")


def test_a_dry_run_starts_nothing(command: Command, tiny: FolderConfig) -> None:
    result = command(main, *SMALL, "--dry-run", "hydra.run.dir=runs/planned")
    assert result.code == 0, result.err
    assert "Nothing stops this run." in result.out
    assert "16 images for training with 2.0 captions each" in result.out
    assert not Path("runs/planned").exists()


def test_resume_goes_on_in_the_same_folder(command: Command, small_run: SmallRun) -> None:
    small_run("run")
    result = command(main, "resume=run", "trainer.max_epochs=2")
    assert result.code == 0, result.err
    assert json.loads(Path("run/metrics.json").read_text())["run"]["epochs"] == 2
    assert not Path("runs").exists()
    assert "max_epochs: 2" in Path("run/config.yaml").read_text()  # what it is resumed with is kept
    assert command(main, "resume=run").code == 0
    assert json.loads(Path("run/metrics.json").read_text())["run"]["epochs"] == 2


def test_killed_before_its_first_checkpoint_it_begins_again(command: Command, small_run: SmallRun) -> None:
    small_run("whole")
    small_run("run")
    for path in Path("run").iterdir():
        if path.name not in ("config.yaml", "log.txt", "log.jsonl"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert command(main, "resume=run").code == 0
    assert Path("run/captions_val.json").read_bytes() == Path("whole/captions_val.json").read_bytes()
    assert len(read_records(Path("run"))) == len(read_records(Path("whole")))


def test_rests_of_a_kill_do_not_make_a_folder_used(command: Command, tiny: FolderConfig) -> None:
    Path("run").mkdir()
    Path("run/.config.yaml.0123abcd.tmp").write_text("half")
    assert command(main, *SMALL, "hydra.run.dir=run").code == 0


def test_resume_keeps_its_model(command: Command, small_run: SmallRun) -> None:
    small_run("run")
    result = command(main, "resume=run", "model=gru")
    assert result.code == 2
    assert "a resumed run keeps its model" in result.err
    before = Path("run/config.yaml").read_bytes()
    resized = command(main, "resume=run", "model.hidden_dim=16", "trainer.max_epochs=2")
    assert resized.code == 2
    assert resized.err.startswith("error: model.hidden_dim=16 cannot go with resume=: the weights of run do not fit")
    assert Path("run/config.yaml").read_bytes() == before
    assert command(main, "resume=run", "trainer.max_epochs=2").code == 0


def test_an_existing_run_is_never_overwritten(command: Command, small_run: SmallRun) -> None:
    small_run("run")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    result = command(main, *SMALL, "hydra.run.dir=run")
    assert result.code == 2
    assert "never overwritten" in result.err
    assert "resume=run" in result.err
    assert before == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["trainer.max_epoch=3"], "trainer.max_epoch does not exist. Did you mean trainer.max_epochs"),
        (["model=atention"], "model=atention does not exist. Did you mean attention"),
        (["modle=lstm"], "modle does not exist. Did you mean model?"),
        (["epochs=3"], "epochs does not exist. Did you mean trainer.max_epochs?"),
        (["lr=0.1"], "lr does not exist. Did you mean optim.learning_rate?"),
        (["batch_size=8"], "batch_size=… cannot be set here, but trainer.batch_size=… can"),
        (["beam=5"], "beam does not exist. Did you mean decode.beam_width?"),
        (["max_epcohs=5"], "max_epcohs does not exist. Did you mean trainer.max_epochs"),
        (["--hlep"], "--hlep does not exist. Did you mean --help?"),
        (["--epochs", "3"], "settings are KEY=VALUE, without dashes. Write trainer.max_epochs=3"),
        (["--lr=0.1"], "Write optim.learning_rate=0.1"),
        (["--dryrun"], "--dryrun does not exist. Did you mean --dry-run?"),
        (["--dry-run", "resume=runs/x"], "--dry-run is for a run that has not begun"),
        (["--dry-run", "encoder.weights=none.pth"], "This run would not start"),
        (["--frobnicate"], "--frobnicate does not exist: settings are KEY=VALUE, such as trainer.max_epochs=3"),
        (["trainer.max_epochs=many"], "trainer.max_epochs=many has the wrong type"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0 is too small: expected 1 or more"),
        (["model.cell=lsmt"], "model.cell='lsmt' does not exist. Did you mean lstm?"),
        (["+foo=1"], "foo does not exist"),
        (["data.limit=[1"], "cannot be read"),
        (["data=flickr8k", "data.root=nowhere"], "nowhere does not exist"),
        (["data=flickr8k"], "data.root"),
        (["resume=nowhere"], "resume=nowhere is no run folder"),
        (["device=gpu"], "device='gpu'"),
        (["encoder.fine_tune_from=layer9"], "layer9"),
        (["metric.names=[Blue]"], "Did you mean Bleu"),
        (["trainer.evaluate_splits=[tset]"], "tset"),
        (["data.captions=unsplit.csv", "data.val_fraction=0"], "has no val split"),
    ],
)
def test_a_mistake_is_one_clear_message(command: Command, tiny: FolderConfig, options: list[str], message: str) -> None:
    small = [option for option in SMALL if not any(option.startswith(o.split("=")[0] + "=") for o in options)]
    if any(option.startswith("data=") for option in options):
        small = [option for option in small if not option.startswith("data.")]
    Path("data/unsplit.csv").write_text("image,caption\n000.png,red\n001.png,green\n")
    result = command(main, *small, "hydra.run.dir=run", *options)
    assert result.code == 2, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert not Path("run").exists(), "no empty run folder is left behind"


def test_debug_shows_the_traceback(command: Command, tiny: FolderConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONER_DEBUG", "1")
    from captioner.errors import ConfigError

    with pytest.raises(ConfigError):
        command(main, *SMALL, "trainer.max_epochs=0")


def test_help_lists_choices_and_settings(command: Command) -> None:
    result = command(main, "--help")
    assert result.code == 0
    models = ", ".join(sorted(path.stem for path in (CONF / "model").iterdir()))
    assert f"model: {models}" in " ".join(result.out.split())
    assert "trainer.max_epochs=12" in result.out
    assert "stop after this many validations without a better score" in " ".join(result.out.split())  # in any width
    assert "model.injection=par" in result.out
    assert "model.attention=" not in result.out
    attention = command(main, "model=attention", "trainer.max_epochs=3", "--help").out
    assert "model.attention=soft" in attention
    assert "trainer.max_epochs=3" in attention
    assert "_schema" not in result.out


CLASSIFIED = (
    "encoder=efficientnet_lite0",
    "encoder.name=efficientnet_lite0",
    "encoder.weights=DEFAULT",
    "decode.class_weight=10",
)


@pytest.mark.slow
def test_a_search_that_weighs_classes_is_scored_when_the_training_ends(command: Command, tiny: FolderConfig) -> None:
    """As evaluate.py scores it: no image looks like a zebra, so no caption has one. Without the weight, all have."""
    rows = Path("data/captions.csv").read_text().splitlines()
    captions = ("zebra zebra zebra zebra", "zebra zebra zebra mask")
    named = [re.sub(",.*,", f",{captions[number % 2]},", row) for number, row in enumerate(rows[1:])]
    Path("data/captions.csv").write_text("\n".join([rows[0], *named]))
    lengths = ("decode.min_length=4", "decode.max_length=4", "optim.learning_rate=0.05")
    result = command(main, *SMALL, *CLASSIFIED, *lengths, "hydra.run.dir=run")
    assert result.code == 0, result.err
    for weight in (10, 0):
        options = ("checkpoint=run", "metric.names=[Bleu,CIDEr]", "device=cpu", f"decode.class_weight={weight}")
        assert command(evaluate, *options, f"hydra.run.dir=weight{weight}").code == 0
    assert Path("run/captions_val.json").read_bytes() == Path("weight10/captions_val.json").read_bytes()
    assert "zebra" not in Path("run/captions_val.json").read_text()
    assert "zebra" in Path("weight0/captions_val.json").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (CLASSIFIED, "decode.class_weight=10 has no effect: the training captions have no word of"),
        ((*CLASSIFIED, "encoder.weights=null"), "decode.class_weight=10 needs an encoder with a published classifier"),
    ],
    ids=["no word", "no classifier"],
)
def test_a_weight_of_classes_that_cannot_be_used_is_refused_before_the_training(
    command: Command, tiny: FolderConfig, options: tuple[str, ...], message: str
) -> None:
    result = command(main, *SMALL, *options, "hydra.run.dir=run")
    assert result.code == 2
    assert message in result.err
    assert "epoch" not in result.err


def test_the_end_of_a_training_counts_captions_without_words(capsys: pytest.CaptureFixture[str]) -> None:
    """A barely trained captioner says nothing in beam search; its scores of 0 are explained."""
    captions = {1: "", 2: "a dog"}
    evaluation = Evaluation("val", captions, score(captions, {key: ["a dog runs"] for key in captions}), {}, {})
    print_result(TrainingResult(Path("runs/x"), 1, 1.0, {"val": evaluation}))
    assert "Note: val: 1 of 2 captions have no word" in capsys.readouterr().out
