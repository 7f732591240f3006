"""`captioner export --onnx`, `--add-onnx`, `--precision`, `--photos`, and captions from what they write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from captioner.checkpoint.manifest import write_manifest
from captioner.checkpoint.onnx.description import CLASS_FILES, GRAPH_FILES, find_onnx
from captioner.checkpoint.pretrained import DEFAULT, pretrained_folder
from captioner.cli.caption import main as caption
from captioner.cli.export import main as export
from tests.cli.conftest import Command, SmallRun

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

ROOT = Path(__file__).parents[2]
CAT = ROOT / "docs" / "pretrained" / "cat.jpg"


HARD = ("model=attention", "model.attention=hard", "model.hard_at_test=sample")
"""The one model that has no export: it samples where it attends."""


def add_photos(folder: Path) -> None:
    """Ten photos in photos/ and one in few/, of those in data/."""
    photos = sorted((folder / "data").glob("*.png"))[:10]
    for name, chosen in (("photos", photos), ("few", photos[:1])):
        (folder / name).mkdir()
        for path in chosen:
            shutil.copy(path, folder / name)


@pytest.fixture
def here(small_run: SmallRun, tmp_path: Path) -> Path:
    """The working folder, with data/, photos/ and a finished run of HARD in runs/first."""
    small_run("runs/first", *HARD)
    add_photos(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


RUN = ("--checkpoint", "runs/first")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "runs/frist", "--onnx", "x"], "Did you mean runs/first"),
        ([*RUN, "--onnx", "x", "--precison", "int8"], "Did you mean --precision"),
        ([*RUN, "--onnx", "x", "--precision", "int9"], "int8"),
        ([*RUN, "--onnx", "x", "--photos", "photos"], "--photos has no effect with --precision float32"),
        ([*RUN, "--onnx", "x", "--precision", "int8"], "--precision int8 needs --photos DIR"),
        ([*RUN, "--onnx", "x", "--precision", "int8", "--photos", "nowhere"], "--photos nowhere is not a folder"),
        ([*RUN, "--onnx", "x", "--precision", "int8", "--photos", "runs"], "runs contains no images"),
        ([*RUN, "--onnx", "x", "--precision", "int8", "--photos", "few"], "expected 8 or more"),
        ([*RUN, "--onnx", "x", "--add-onnx"], "--onnx and --add-onnx were given"),
        ([*RUN, "--add-onnx", "--precision", "float16"], "--precision has no effect with --add-onnx"),
        ([*RUN, "--onnx", "x", "--float32"], "--float32 has no effect with --onnx"),
        ([*RUN, "--onnx", "x", "--notes", "n.md"], "--notes has no effect with --onnx"),
        ([*RUN, "--onnx", "no/where"], "the folder"),
        ([*RUN, "--onnx", "data"], "data exists already"),
        ([*RUN, "--onnx", "data", "--replace"], "data is not a folder that --onnx wrote"),
        ([*RUN, "--onnx", "x"], "samples where to attend"),
        ([*RUN, "--add-onnx"], "samples where to attend"),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_message_and_changes_nothing(
    here: Path, command: Command, arguments: list[str], message: str
) -> None:
    before = content(here)
    result = command(export, *arguments)
    assert result.code == 2, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert content(here) == before


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_package_that_is_missing_is_named_with_its_extra(
    here: Path, command: Command, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = command(export, *RUN, "--onnx", "x")
    assert result.code == 2
    assert f"needs {package}: pip install 'captioner[onnx]'" in result.err
    assert not Path("x").exists()


def another_operator(folder: Path) -> None:
    """An operator that no onnxruntime has, as one of a later version would be."""
    model = onnx.load(folder / "step.onnx", load_external_data=False)
    model.graph.node[0].op_type = "OfTomorrow"
    (folder / "step.onnx").write_bytes(model.SerializeToString())
    write_manifest(folder)


def another_opset(folder: Path) -> None:
    model = onnx.load(folder / "encoder.onnx", load_external_data=False)
    model.opset_import[0].version = 99
    (folder / "encoder.onnx").write_bytes(model.SerializeToString())
    write_manifest(folder)


def altered(folder: Path) -> None:
    content = bytearray((folder / "class_map.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "class_map.onnx").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (altered, "class_map.onnx was altered or damaged"),
        (another_operator, "step.onnx cannot be used by onnxruntime"),
        (another_opset, "install a newer onnxruntime, or export the model again"),
        (lambda folder: (folder / "onnx.json").unlink(), "has no ONNX files: write some with"),
    ],
    ids=["altered", "operator", "opset", "none"],
)
def test_files_that_cannot_be_used_are_one_message(
    tmp_path: Path, command: Command, damage: Callable[[Path], object], message: str
) -> None:
    source = find_onnx(pretrained_folder(DEFAULT))
    assert source is not None
    damage(Path(shutil.copytree(source, "copied")))
    before = content(Path("copied"))
    result = command(caption, str(CAT), "--checkpoint", "copied", "--backend", "onnx", "--out", "captions.jsonl")
    assert result.code == 2, result.err
    assert message in result.err
    assert "Traceback" not in result.err
    assert content(Path("copied")) == before
    assert not Path("captions.jsonl").exists()


def test_onnxruntime_that_is_missing_is_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = command(caption, str(CAT), "--checkpoint", DEFAULT, "--backend", "onnx")
    assert result.code == 2
    assert "needs onnxruntime: pip install 'captioner[runtime]'" in result.err


def test_a_stopped_folder_whose_photos_changed_loses_nothing(command: Command) -> None:
    """Without torch: the photos that came are added, and the line of one that is gone is kept."""
    shutil.copytree(ROOT / "docs" / "pretrained", "photos", ignore=shutil.ignore_patterns("*.md"))
    names = sorted(Path("photos").iterdir())
    new = names[-1].rename("later.jpg")
    options = ("--checkpoint", DEFAULT, "--backend", "onnx", "--out", "captions.jsonl")
    first = command(caption, "photos", *options)
    assert first.code == 0, first.err
    lines = Path("captions.jsonl").read_bytes().splitlines(keepends=True)
    kept = b"".join(lines[:3])
    Path("captions.jsonl").write_bytes(kept + lines[3][:20])  # as a command that was killed leaves it
    names[0].unlink()
    new.rename(names[-1])
    result = command(caption, "photos", *options)
    assert result.code == 0, result.err
    assert f"such as {names[0]}; their lines are kept" in result.err
    written = Path("captions.jsonl").read_bytes()
    assert written.startswith(kept)
    records = [json.loads(line) for line in written.splitlines()]
    assert [record["path"] for record in records] == list(map(str, names))
    assert all(" onnx " in record["model"] and record["tags"] is not None for record in records)


def run_export(run: Command, *arguments: str) -> str:
    """Standard output of `captioner export`, where shape annotations are not enforced in the export."""
    if hasattr(torch.compiler, "is_exporting"):  # from torch 2.6 on, tests.shapes knows it
        result = run(export, *arguments)
        assert result.code == 0, result.err
        return result.out
    command = [sys.executable, "-m", "captioner", "export", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_every_precision_captions_and_the_run_gets_graphs_of_its_own(
    small_run: SmallRun, command: Command, tmp_path: Path
) -> None:
    small_run("runs/first", "model=gru")
    add_photos(tmp_path)
    expected = command(caption, "data/003.png", "--checkpoint", "runs/first", "--backend", "torch").out
    assert expected.strip()
    sizes = {}
    for precision, options in {
        "float32": (),
        "float16": ("--precision", "float16"),
        "int8": ("--precision", "int8", "--photos", "photos"),
    }.items():
        assert f"Written: {precision} ({precision}, opset 18" in run_export(
            command, *RUN, "--onnx", precision, *options
        )
        assert {*GRAPH_FILES, "onnx.json", "config.json", "vocab.json", "SHA256SUMS"} <= {
            path.name for path in Path(precision).iterdir()
        }
        assert not set(CLASS_FILES) & {path.name for path in Path(precision).iterdir()}, "its encoder has no classes"
        result = command(caption, "data/003.png", "--checkpoint", precision, "--backend", "onnx")
        assert result.code == 0, result.err
        assert result.out.strip()
        if precision == "float32":
            assert result.out == expected
        sizes[precision] = (Path(precision) / "encoder.onnx").stat().st_size
    assert sizes["int8"] < 0.5 * sizes["float32"]
    run_export(command, *RUN, "--onnx", "float16", "--precision", "float16", "--replace")
    assert "Written: " in run_export(command, *RUN, "--add-onnx")
    result = command(caption, "data/003.png", "--checkpoint", "runs/first", "--backend", "onnx")
    assert result.out == expected
