"""`evaluate.py results=FILE`: no torch and no image, subsets, names of systems, and every kind of wrong file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from captioner.cli.evaluate import main
from captioner.cli.score_job import system_names
from captioner.config import FolderConfig
from captioner.data.datasets.registry import load_dataset
from tests.cli.conftest import Command

REFERENCES = {
    0: ["a cat on a mat", "a cat"],
    1: ["a dog in a park", "a brown dog"],
    2: ["a red bus", "a bus on a street"],
    3: ["two men on a bench", "men sit on a bench"],
}
CAPTIONS = {0: "a cat on a mat", 1: "a dog on a bench", 2: "a red bus", 3: "two men"}
METRICS = "metric.names=[Bleu,CIDEr]"
REPOSITORY = Path(__file__).parents[2]


def coco(references: Mapping[int, list[str]]) -> str:
    return json.dumps(
        {
            "images": [{"id": image_id, "file_name": f"{image_id}.jpg"} for image_id in references],
            "annotations": [{"image_id": i, "caption": text} for i, texts in references.items() for text in texts],
        }
    )


def results(captions: Mapping[Any, Any]) -> str:
    return json.dumps([{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A COCO folder with annotations and without images, results.json and two.json, which has half of the captions."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/captions_val2014.json").write_text(coco(REFERENCES))
    (tmp_path / "lists.json").write_text(json.dumps(REFERENCES))
    (tmp_path / "results.json").write_text(results(CAPTIONS))
    (tmp_path / "two.json").write_text(results({0: CAPTIONS[0], 2: CAPTIONS[2]}))
    return tmp_path


def metrics(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return loaded


SOURCES = {
    "data": ["data=coco", "data.root=.", "split=val"],
    "file": ["references=annotations/captions_val2014.json"],
    "lists": ["references=lists.json"],
}


def test_all_sources_of_references_give_the_same_scores(command: Command, files: Path) -> None:
    found = []
    for name, source in SOURCES.items():
        done = command(main, "results=results.json", *source, METRICS, f"hydra.run.dir={name}")
        assert done.code == 0, done.err
        record = metrics(files / name)
        assert json.loads((files / name / f"captions_{record['signature']['split']}.json").read_text())
        found.append({key: value for key, value in record.items() if isinstance(value, float)})
    assert found[0] == found[1] == found[2]
    assert found[0]["CIDEr"] > 1


@pytest.mark.parametrize("source", [["data=coco", "data.karpathy=k.json", "data.root=."], *SOURCES.values()])
def test_images_are_not_looked_for(
    command: Command, files: Path, monkeypatch: pytest.MonkeyPatch, source: list[str]
) -> None:
    """No path of an image, and no folder of images, is opened, listed or stat'ed."""
    (files / "k.json").write_text(
        json.dumps(
            {
                "images": [
                    {
                        "split": "val",
                        "cocoid": image_id,
                        "filename": f"{image_id}.jpg",
                        "filepath": "images_of_coco",
                        "sentences": [{"raw": text} for text in texts],
                    }
                    for image_id, texts in REFERENCES.items()
                ]
            }
        )
    )
    (files / "annotations/captions_val2014.json").write_text(coco(REFERENCES).replace("0.jpg", "images_of_coco/0.jpg"))
    touched: list[str] = []
    real = {name: getattr(os, name) for name in ("stat", "lstat", "listdir", "scandir", "open")}
    for name, function in real.items():

        def record(path: Any = ".", *rest: Any, _call: Any = function, **named: Any) -> Any:
            touched.append(str(path))
            return _call(path, *rest, **named)

        monkeypatch.setattr(os, name, record)
    done = command(main, "results=results.json", *source, METRICS, "hydra.run.dir=out")
    assert done.code == 0, done.err
    assert any("annotations" in path or path.endswith("json") for path in touched)
    assert not [path for path in touched if path.endswith(".jpg")]


def test_torch_is_not_imported(files: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; from captioner.cli.evaluate import main; main()"
    arguments = ["results=results.json", *SOURCES["data"], METRICS, "metric.per_image=true", "compare=results.json"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "hydra.run.dir=out"],
        cwd=files,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "CIDEr" in done.stdout


def test_a_subset_says_so_everywhere(command: Command, files: Path) -> None:
    done = command(main, "results=two.json", *SOURCES["file"], METRICS)
    assert done.code == 2
    assert "2 of 4 image ids have no caption (1, 3)" in done.err
    assert "subset=results" in done.err
    done = command(main, "results=two.json", *SOURCES["file"], METRICS, "subset=results", "hydra.run.dir=out")
    assert done.code == 0, done.err
    assert done.out.count("2 of 4 images") == 2  # the row of the table, and the signature
    record = metrics(files / "out")
    assert record["subset"] == record["signature"]["subset"] == "2 of 4 images"
    (files / "half.json").write_text(json.dumps({key: REFERENCES[key] for key in (0, 2)}))
    done = command(main, "results=two.json", "references=half.json", METRICS, "hydra.run.dir=half")
    half = metrics(files / "half")
    assert [half[name] for name in ("Bleu_4", "CIDEr")] == [record[name] for name in ("Bleu_4", "CIDEr")]
    assert "subset" not in half
    done = command(main, "results=results.json", *SOURCES["file"], METRICS, "subset=results", "hydra.run.dir=full")
    assert done.code == 0, done.err
    assert "subset" not in metrics(files / "full")


def test_a_comparison_is_printed_and_stored(command: Command, files: Path) -> None:
    (files / "other.json").write_text(results(dict.fromkeys(CAPTIONS, "a red bus")))
    done = command(main, "results=results.json", "compare=other.json", *SOURCES["file"], METRICS, "hydra.run.dir=out")
    assert done.code == 0, done.err
    assert "difference: other.json minus results.json;" in done.out
    record = metrics(files / "out")
    comparison = record["comparison"]
    assert (comparison["first"], comparison["second"]) == ("results.json", "other.json")
    row = comparison["scores"]["CIDEr"]
    assert row["first"] == record["CIDEr"]
    assert row["difference"] == row["second"] - row["first"] < 0
    assert row["low"] <= row["difference"] <= row["high"]


def test_captions_without_words_are_counted_for_their_system(command: Command, files: Path) -> None:
    (files / "blank.json").write_text(results({**CAPTIONS, 1: "", 2: "."}))
    done = command(main, "results=results.json", "compare=blank.json", *SOURCES["file"], METRICS, "hydra.run.dir=out")
    assert done.code == 0, done.err
    assert [line for line in done.out.splitlines() if "no word" in line] == [
        "Note: blank.json: 2 of 4 captions have no word (they are empty, or punctuation alone), so no metric finds "
        "anything in them."
    ]


def test_a_run_s_captions_are_scored_on_its_data(command: Command, files: Path) -> None:
    """results=RUN/captions_val.json needs no data=…, and is then named by the run."""
    run = files / "runs/mine"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text("{}")
    (run / "config.yaml").write_text(f"data: {{name: coco, root: {files}}}\n")
    (run / "captions_val.json").write_text(results(CAPTIONS))
    done = command(main, "results=runs/mine/captions_val.json", METRICS, "hydra.run.dir=out")
    assert done.code == 0, done.err
    assert metrics(files / "out")["signature"]["data"] == "coco2014"


def test_a_report_of_files_shows_the_images(command: Command, tiny: FolderConfig) -> None:
    dataset = load_dataset(tiny, "val")
    for name, which in (("a.json", 0), ("b.json", -1)):
        Path(name).write_text(results({image.image_id: image.captions[which] for image in dataset}))
    options = ("data=folder", "data.root=data", METRICS, "report=true")
    done = command(main, "results=a.json", "compare=b.json", *options, "hydra.run.dir=out")
    assert done.code == 0, done.err
    page = Path("out/report.html").read_text()
    assert page.count("<article>") == 24  # random, best and worst
    assert page.count("<th><span class=") == 2  # a row a system
    assert page.count("data:image/") == 24


BAD: dict[str, tuple[Any, str]] = {
    "unknown ids": ({**CAPTIONS, 9: "a cow"}, "1 image ids are unknown (9)"),
    "captions missing": ({0: "a cat"}, "3 of 4 image ids have no caption (1, 2, 3)"),
    "another data set": ({900 + key: text for key, text in CAPTIONS.items()}, "of another data set or split?"),
    "null": ({**CAPTIONS, 1: None}, "entry 1: expected"),
    "a number": ({**CAPTIONS, 1: 3.5}, "entry 1: expected"),
    "a list": ({**CAPTIONS, 1: ["a", "b"]}, "entry 1: expected"),
    "duplicate ids": (results(CAPTIONS)[:-1] + ', {"image_id": 2, "caption": "a bus"}]', "more than one caption: 2"),
    "duplicate keys": ('{"0": "a", "0": "b", "1": "c", "2": "d", "3": "e"}', "more than one caption: 0"),
    "references": (coco(REFERENCES), "has 'images', as a file of references has"),
    "references as lists": (json.dumps(REFERENCES), "Are these the references?"),
    "no JSON": ('[{"image_id": 0, ', "is not valid JSON"),
    "empty": ("", "is not valid JSON"),
    "empty list": ("[]", "4 of 4 image ids have no caption"),
    "text": ('"a dog"', "expected a list of captions"),
    "an error page": ("<html>not found</html>", "is not valid JSON"),
}


@pytest.mark.parametrize("content", BAD)
@pytest.mark.parametrize("source", ["data", "file"])
def test_wrong_results_are_one_message(command: Command, files: Path, content: str, source: str) -> None:
    wrong, message = BAD[content]
    (files / "bad.json").write_text(wrong if isinstance(wrong, str) else results(wrong))
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    done = command(main, "results=bad.json", *SOURCES[source], METRICS, "hydra.run.dir=out")
    assert done.code == 2, done.err
    assert message in done.err
    assert done.err.count("\n") == 1
    assert "_Object" not in done.err
    assert not (files / "out").exists()
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["results=results.json", "references=results.json"], "is given as captions and as references"),
        (["results=results.json", "compare=lists.json", "references=lists.json"], "as captions and as references"),
        (["results=results.json", "references=nowhere.json"], "references=nowhere.json does not exist"),
        (["results=reslts.json", "references=lists.json"], "Did you mean results.json"),
        (["results=annotations", "references=lists.json"], "give results=annotations/captions_val2014.json"),
        (["results=results.json", "references=annotations"], "references=annotations is a folder"),
        (["results=results.json", "references=lists.json", "data=coco"], "not both"),
        (["results=results.json", "references=lists.json", "report=true"], "give data=… data.root=DIR instead"),
        (["results=results.json", "references=lists.json", "subset=images"], "Choose one of: results"),
        (["results=results.json", "references=empty.json"], "is empty"),
        (
            ["results=results.json", *SOURCES["data"], "report=true"],
            "4 of the 4 images of coco2014 val are not on disk",
        ),
        (["checkpoint=x", "references=lists.json"], "references=lists.json needs results="),
        (["results=results.json"], "(Scored against data=scenes, as no other was given: give references=FILE"),
        (["results=two.json", "compare=results.json", "references=lists.json", "subset=results"], "cannot be compared"),
        (["results=results.json", "references=lists.json", "hydra.run.dir=."], "never overwritten"),
        (["results=results.json", "references=lists.json", "tokenizer.name=pbt"], "ptb"),
        (["results=results.json", "references=lists.json", "metric.names=[CIDER]"], "Did you mean CIDEr"),
    ],
)
def test_wrong_settings_are_one_message(command: Command, files: Path, options: list[str], message: str) -> None:
    (files / "empty.json").write_text("{}")
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    defaults = [METRICS, "hydra.run.dir=out"]  # the default metrics need an index that takes a minute
    names = [option.partition("=")[0] for option in options]
    done = command(main, *options, *(option for option in defaults if option.partition("=")[0] not in names))
    assert done.code == 2, done.err
    assert message in done.err
    assert "Traceback" not in done.err
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


def test_names_of_systems(tmp_path: Path) -> None:
    """A run is named by its folder, another file by its name; equal names get the folders around them."""
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "metrics.json").write_text("{}")
    (tmp_path / "c").mkdir()
    assert system_names([tmp_path / "a/captions_val.json", tmp_path / "b/captions_val.json"]) == ["a", "b"]
    assert system_names([tmp_path / "a/captions_val.json", tmp_path / "c/theirs.json"]) == ["a", "theirs.json"]
    assert system_names([tmp_path / "c/x.json", tmp_path / "x.json"]) == ["c/x.json", f"{tmp_path.name}/x.json"]
    assert system_names([tmp_path / "a/x.json", tmp_path / "a/y.json"]) == ["a/x.json", "a/y.json"]
    assert system_names([tmp_path / "a/x.json"]) == ["a"]
