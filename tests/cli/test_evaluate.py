"""evaluate.py: a checkpoint's captions, captions from a file, two files compared, and what may go wrong."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from captioner.cli import evaluate_job
from captioner.cli.evaluate import main
from tests.cli.conftest import Command, SmallRun

DATA = ("data=folder", "data.root=data", "data.num_workers=0", "metric.names=[Bleu,CIDEr]")


@pytest.fixture
def run(small_run: SmallRun) -> Path:
    return small_run("run")


def metrics(folder: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(Path(folder, "metrics.json").read_text())
    return loaded


def test_checkpoint_gives_what_training_gave(command: Command, run: Path) -> None:
    """Data and search default to those of the run."""
    result = command(main, "checkpoint=run", "metric.names=[Bleu,CIDEr]", "device=cpu", "hydra.run.dir=again")
    assert result.code == 0, result.err
    trained, again = metrics("run"), metrics("again")
    assert {k: v for k, v in trained.items() if k != "run"} == again
    assert Path("run/captions_val.json").read_bytes() == Path("again/captions_val.json").read_bytes()
    assert "Bleu_4" in result.out
    assert "tokenizer ptb 1, 8 images × 2 references" in result.out


def test_several_processes_are_started_with_the_same_settings(
    command: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they write is tested with real ones (test_launch.py)."""
    started = []
    monkeypatch.setattr(evaluate_job, "launch", lambda *what: started.append(what))
    result = command(main, "checkpoint=run", "split=test", "devices=2", "device=cpu", "hydra.run.dir=several")
    assert result.code == 0, result.err
    ((name, options, count),) = started
    assert (name, count) == ("evaluate", 2)
    assert options[:3] == ["checkpoint=run", "split=test", "devices=2"]
    assert options[-1] == f"hydra.run.dir={Path('several').absolute()}"
    assert not list(Path("several").glob("*"))  # they would refuse a folder that is in use


def test_other_split_and_search(command: Command, run: Path) -> None:
    result = command(
        main, "checkpoint=run", "split=test", "decode.beam_width=1", *DATA, "device=cpu", "hydra.run.dir=test"
    )
    assert result.code == 0, result.err
    signature = metrics("test")["signature"]
    assert isinstance(signature, dict)
    assert signature["split"] == "test"
    assert signature["decode"]["beam_width"] == 1


def test_another_search_keeps_the_other_settings_of_the_run(command: Command, small_run: SmallRun) -> None:
    """As caption.py's --decode: reports of 60 words are not cut at the default of 20 by another search."""
    small_run("run", "decode.max_length=3", "decode.length_penalty=0.5")
    for choice, name in (("decode=greedy", "greedy"), ("decode.name=sample", "sample")):
        result = command(
            main, "checkpoint=run", choice, "decode.seed=7", "metric.names=[Bleu]", f"hydra.run.dir={name}"
        )
        assert result.code == 0, result.err
        signature = metrics(name)["signature"]
        assert isinstance(signature, dict)
        decode = signature["decode"]
        assert [decode[key] for key in ("name", "seed", "max_length", "length_penalty")] == [name, 7, 3, 0.5]
        captions = json.loads(Path(name, "captions_val.json").read_text())
        assert max(len(entry["caption"].split()) for entry in captions) == 3


@pytest.mark.parametrize("source", ["checkpoint=run", "results=run/captions_val.json"])
def test_settings_of_data_change_those_of_the_run(command: Command, run: Path, source: str) -> None:
    """Not those of the default data set: three of the run's images are scored, with their own references."""
    named = ("metric.names=[Bleu]", "data.limit=3", "metric.per_image=true")
    results = json.loads(Path("run/captions_val.json").read_text())
    Path("run/captions_val.json").write_text(json.dumps(results[:3]))
    result = command(main, source, *named, "hydra.run.dir=three")
    assert result.code == 0, result.err
    given = command(main, source, "data=folder", "data.root=data", *named, "hydra.run.dir=given")
    assert given.code == 0, given.err
    assert Path("three/per_image_val.csv").read_bytes() == Path("given/per_image_val.csv").read_bytes()
    assert "3 images × 2 references" in result.out


def test_results_of_others_score_the_same(command: Command, run: Path) -> None:
    result = command(main, "results=run/captions_val.json", *DATA, "metric.per_image=true", "hydra.run.dir=others")
    assert result.code == 0, result.err
    trained, others = metrics("run"), metrics("others")
    assert [others[name] for name in ("Bleu_1", "Bleu_4", "CIDEr")] == [
        trained[name] for name in ("Bleu_1", "Bleu_4", "CIDEr")
    ]
    assert Path("others/per_image_val.csv").read_text().count("\n") == 9  # a header and eight images
    table = command(main, "results=others/per_image_val.csv", *DATA, "hydra.run.dir=table")
    assert table.code == 0, table.err
    assert metrics("table")["CIDEr"] == others["CIDEr"]


def test_captions_of_a_run_are_scored_with_its_tokenizer(command: Command, run: Path, small_run: SmallRun) -> None:
    small_run("letters", "tokenizer=char")
    options = ("results=letters/captions_val.json", "metric.names=[Bleu]")
    found = {}
    for name, more in (("own", ()), ("words", ("tokenizer=ptb",)), ("compared", ("compare=run/captions_val.json",))):
        result = command(main, *options, *more, f"hydra.run.dir={name}")
        assert result.code == 0, result.err
        found[name] = metrics(name)["Bleu_1"], metrics(name)["signature"]["tokenizer"]  # type: ignore[index]
    assert found["own"] == found["compared"] == (metrics("letters")["Bleu_1"], "char")
    assert found["words"][1] == "ptb"
    assert found["words"][0] != found["own"][0]


@pytest.mark.parametrize(("tokenizer", "noted"), [("ptb", True), ("char", False)])
def test_a_script_without_spaces_is_noted(command: Command, tmp_path: Path, tokenizer: str, noted: bool) -> None:
    Path("references.json").write_text(json.dumps({"1": ["图片的右边是蓝色的"], "2": ["一只狗在草地上跑"]}))
    Path("found.json").write_text(json.dumps({"1": "图片的左边是蓝色的", "2": "一只狗在跑"}))
    options = ("results=found.json", "references=references.json", "metric.names=[Bleu]", "hydra.run.dir=out")
    result = command(main, *options, f"tokenizer={tokenizer}")
    assert result.code == 0, result.err
    assert ("set tokenizer=char" in result.out) is noted
    assert (float(str(metrics("out")["Bleu_1"])) < 1e-6) is noted


def test_compare_two_files(command: Command, run: Path) -> None:
    captions = json.loads(Path("run/captions_val.json").read_text())
    Path("b.json").write_text(json.dumps([{**row, "caption": "a red half on the left"} for row in captions]))
    result = command(main, "results=run/captions_val.json", "compare=b.json", *DATA, "hydra.run.dir=compared")
    assert result.code == 0, result.err
    assert "captions_val.json" in result.out
    assert "b.json" in result.out
    assert "interval" in result.out


def test_report_of_one_and_of_two(command: Command, run: Path) -> None:
    result = command(
        main, "checkpoint=run", "baselines=[run]", "report=true", *DATA, "device=cpu", "hydra.run.dir=page"
    )
    assert result.code == 0, result.err
    assert "Report: page/report.html" in result.out
    page = Path("page/report.html").read_text()
    assert page.count("<article>") == 24
    assert page.count("<th><span class=") == 2  # a row a system


@pytest.mark.parametrize(
    "options", [("decode=sample", "decode.temperature=5"), ("decode.beam_width=1", "captions_per_image=9")]
)
def test_the_report_shows_attention_of_the_captions_that_were_scored(
    command: Command, small_run: SmallRun, options: tuple[str, ...]
) -> None:
    """Also those of a search that samples, by the images' ids, and of a beam that was widened."""
    small_run("run", "model=attention", "model.attention_dim=4", "encoder.name=squeezenet1_1")
    more = ("decode.min_length=4", "report=true", "device=cpu", "hydra.run.dir=page")
    result = command(main, "checkpoint=run", *DATA, *options, *more)
    assert result.code == 0, result.err
    scored = {row["caption"] for row in json.loads(Path("page/captions_val.json").read_text())}
    attended = re.findall("<h3>.*?</span>(.*?)</h3>", Path("page/report.html").read_text())
    assert len(attended) == 6
    assert set(attended) <= scored


def test_models_with_other_tokenizers_are_scored_in_the_same_words(
    command: Command, run: Path, small_run: SmallRun
) -> None:
    """Characters agree far more often than words: beside the words of the first, they are no score."""
    small_run("letters", "tokenizer=char")
    options = ("metric.names=[Bleu,ROUGE_L]", "device=cpu", "report=true")
    result = command(main, "checkpoint=run", "baselines=[letters]", *options, "hydra.run.dir=both")
    assert result.code == 0, result.err
    assert "Note: letters: it has another tokenizer than the first model" in result.out
    row = next(line.split() for line in result.out.splitlines() if line.startswith("letters "))
    alone = command(main, "checkpoint=letters", "metric.tokenizer=ptb", *options[:2], "hydra.run.dir=alone")
    assert alone.code == 0, alone.err
    expected = [
        100 * float(str(metrics("alone")[name])) for name in ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L")
    ]
    assert [float(value) for value in row[1:6]] == pytest.approx(expected, abs=0.006)


def test_an_ensemble_of_a_model_and_itself_scores_as_the_model(command: Command, run: Path) -> None:
    alone = command(main, "checkpoint=run", *DATA, "device=cpu", "hydra.run.dir=alone")
    options = ("ensemble=[run,run]", "ensemble_mean=log_probabilities")
    together = command(main, "checkpoint=run", *options, *DATA, "device=cpu", "hydra.run.dir=together")
    assert (alone.code, together.code) == (0, 0), together.err
    scores = [json.loads(Path(folder, "metrics.json").read_text()) for folder in ("alone", "together")]
    assert scores[0]["CIDEr"] == pytest.approx(scores[1]["CIDEr"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["results=run/captions_val.json", "baselines=[run]", *DATA], "has no model"),
        (["results=run/captions_val.json", "ensemble=[run]", *DATA], "ensemble=[…] need checkpoint"),
        (["results=run/captions_val.json", "devices=2", *DATA], "devices=2 needs checkpoint"),
        (["checkpoint=run", "devices=0"], "devices=0 is too small"),
        (["checkpoint=run", "ensemble=[nowhere]"], "nowhere"),
        (["checkpoint=run", "ensemble_mean=log_probabilities"], "has no effect without ensemble"),
        (["checkpoint=run", "ensemble=[run]", "ensemble_mean=log_prob"], "Did you mean log_probabilities"),
        (["checkpoint=run", "baselines=[nowhere]"], "nowhere"),
        ([], "Give either checkpoint=runs/… "),
        (["checkpoint=run", "results=x.json"], "Give either"),
        (["checkpoint=nowhere"], "checkpoint=nowhere is not a folder"),
        (["checkpoint=data"], "contains no checkpoint"),
        (["results=nowhere.json", *DATA], "nowhere.json"),
        (["results=broken.json", *DATA], "broken.json"),
        (["results=missing.json", *DATA], "016"),
        (["checkpoint=run", "split=tset", *DATA], "tset"),
        (["checkpoint=run", "data.root=nowhere"], "nowhere"),
        (["checkpoint=run/checkpoints/alone/c", "data.root=data"], "data.root=data needs data=NAME"),
        (["checkpoint=run/checkpoints/alone/c"], "Give data=NAME data.root=DIR"),
        (["results=missing.json", "data.limit=2"], "data.limit=2 needs data=NAME"),
        (["compare=b.json", "checkpoint=run"], "compare=b.json needs results=a.json"),
        (["--compare", "a.json", "b.json", *DATA], "--compare is a setting now: write results=a.json compare=b.json"),
        (["--checkpoint", "run"], "Write checkpoint=run"),
        (
            ["checkpoint=run", "gpus=2"],
            "gpus does not exist. Did you mean devices? See",
        ),  # trainer.devices is train.py's
        (["checkpoint=run", "--num-gpus", "2"], "Write devices=2"),
        (["checkpoint=run", "beam_size=5"], "beam_size does not exist. Did you mean decode.beam_width?"),
        (["checkpoint=run", "out=there"], "out does not exist. Did you mean hydra.run.dir?"),
        (["checkpoint=run", "epochs=5"], "epochs does not exist. See"),
    ],
)
def test_a_mistake_is_one_clear_message(command: Command, run: Path, options: list[str], message: str) -> None:
    Path("broken.json").write_text('[{"image_id": "016", "caption": ')
    rows = json.loads(Path("run/captions_val.json").read_text())
    Path("missing.json").write_text(json.dumps(rows[1:]))
    shutil.copytree(next(Path("run/checkpoints").glob("step-*")), "run/checkpoints/alone/c")
    result = command(main, *options, "hydra.run.dir=out")
    assert result.code == 2, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert not Path("out").exists()


def test_nothing_is_overwritten(command: Command, run: Path) -> None:
    before = (run / "metrics.json").read_bytes()
    result = command(main, "checkpoint=run", "hydra.run.dir=run", "metric.names=[Bleu]")
    assert result.code == 2
    assert "never overwritten" in result.err
    assert (run / "metrics.json").read_bytes() == before


def test_diversity_knows_the_training_captions(command: Command, run: Path) -> None:
    result = command(
        main,
        "results=run/captions_val.json",
        *DATA[:3],
        "metric.names=[Bleu,Diversity]",
        "metric.rare_at_most=8",
        "hydra.run.dir=diverse",
    )
    assert result.code == 0, result.err
    assert {"Distinct_1", "Novel", "Rare_recall"} <= metrics("diverse").keys()


def test_novelty_is_that_of_the_captions_that_were_trained_on(command: Command, run: Path) -> None:
    """Those of the run's data.limit, not those of the images to evaluate."""
    with Path("data/captions.csv").open(encoding="utf-8", newline="") as file:
        training = [row["caption"] for row in csv.DictReader(file) if row["split"] == "train"]
    third = training[4]  # two captions an image
    assert third not in training[:4]
    rows = [
        {"image_id": row["image_id"], "caption": third}
        for row in json.loads(Path(run, "captions_val.json").read_text())
    ]
    Path(run, "others.json").write_text(json.dumps(rows))
    settings = Path(run, "config.yaml").read_text()
    for limit, novel in ((3, 0.0), (2, 1.0)):
        Path(run, "config.yaml").write_text(settings.replace("limit: null", f"limit: {limit}"))
        options = ("results=run/others.json", "data.limit=8", "metric.names=[Bleu,Diversity]")
        result = command(main, *options, f"hydra.run.dir=limit{limit}")
        assert result.code == 0, result.err
        assert metrics(f"limit{limit}")["Novel"] == novel
