"""The folder of the page without a server: its list of files, its service worker, and what it says it lacks."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from captioner.checkpoint.manifest import write_manifest
from captioner.config import DecodeConfig
from captioner.demo.web.model_files import page_decode
from captioner.demo.web.onnxruntime_web import BINARY, MODULE
from captioner.demo.web.site import write_site
from captioner.errors import CheckpointError, ConfigError

RUNTIME = {MODULE: b"export const env = {};", BINARY: b"\0asm"}
TRANSFORM = {"size": 8, "resize": "squash", "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}


def write_folder(folder: Path, **settings: Any) -> Path:
    """A folder as `--onnx` writes it, with graphs that nothing can run: a page is written without running them."""
    folder.mkdir(parents=True)
    for name in ("encoder.onnx", "init_state.onnx", "step.onnx"):
        (folder / name).write_bytes(name.encode())
    (folder / "vocab.json").write_text(json.dumps(["<PAD>", "<START>", "<END>", "<UNK>", "a", "dog"]), encoding="utf-8")
    config = {
        "format_version": 3,
        "captioner_version": "0.2.0",
        "task": "captioning",
        "model": {"name": "attention"},
        "encoder": {},
        "transform": {**TRANSFORM, "stretch": "none"},
        "tokenizer": {"name": "ptb"},
        "decode": {},
        **settings,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    description = {
        "layout": 1,
        "precision": "float32",
        "opset": 18,
        "needs_grid": True,
        "attends": True,
        "image": 1,
        "rows": 1,
        "feature_dim": 4,
        "grid_size": [2, 3],
        "parameters": 1_234_567,
        "weights": "",
    }
    (folder / "onnx.json").write_text(json.dumps(description), encoding="utf-8")
    write_manifest(folder)
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Path:
    target = tmp_path / "site"
    target.mkdir()
    write_site(write_folder(tmp_path / "onnx"), target, "dogs", RUNTIME)
    return target


def test_the_list_has_the_size_and_the_checksum_of_every_file_that_is_loaded(site: Path) -> None:
    listed = json.loads((site / "site.json").read_text())
    for file in listed["files"]:
        content = (site / file["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    loaded = {file["path"] for file in listed["files"]}
    assert {"encoder.onnx", "step.onnx", "model.json", BINARY, listed["runtime"]["module"]} <= loaded
    assert listed["sizes"]["model"] + listed["sizes"]["runtime"] == sum(file["bytes"] for file in listed["files"])


def test_the_service_worker_keeps_every_other_file(site: Path) -> None:
    head, _, code = (site / "service_worker.js").read_text().partition("\n")
    known = json.loads(head.removeprefix("const SITE = ").removesuffix(";"))
    listed = json.loads((site / "site.json").read_text())
    assert known["version"] == listed["version"]
    others = {path.name for path in site.iterdir()} - {file["path"] for file in listed["files"]}
    assert set(known["page"]) == others - {"service_worker.js"}
    assert "SITE.version" in code


def test_every_file_that_the_page_names_is_there_and_no_other_place_is_named(site: Path) -> None:
    for path in site.glob("*.*"):
        if path.suffix not in (".html", ".js", ".css", ".json") or path.name == "onnxruntime-web.js":
            continue
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'(?:from|href=|src=|import\(|fetch\(|register\(|URL\()\s*"(?:\./)?([\w.-]+)"', text):
            assert (site / name).is_file(), f"{path.name}: {name}"
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}, path.name


def test_the_version_changes_with_any_file(site: Path, tmp_path: Path) -> None:
    version = json.loads((site / "site.json").read_text())["version"]
    for number, changed in enumerate(({"decode": {"beam_width": 9}}, {})):
        target = tmp_path / f"other{number}"
        target.mkdir()
        write_site(write_folder(tmp_path / f"onnx{number}", **changed), target, "dogs", RUNTIME)
        assert (json.loads((target / "site.json").read_text())["version"] == version) is (not changed)


def test_what_the_page_lacks_is_said(tmp_path: Path) -> None:
    assert page_decode(DecodeConfig(beam_width=4), classes=True) == (DecodeConfig(beam_width=4), [])
    weighs = DecodeConfig(class_weight=2.0)
    assert page_decode(weighs, classes=True) == (weighs, [])
    decode, (note,) = page_decode(weighs, classes=False)
    assert decode == DecodeConfig()
    assert "without decode.class_weight=2" in note
    decode, (note,) = page_decode(DecodeConfig(name="sample"), classes=True)
    assert decode.name == "beam"
    assert "does not have decode=sample" in note
    weighs = DecodeConfig(name="sample", consensus_weight=2.0)  # which sampling does not use
    assert page_decode(weighs, classes=True)[0].consensus_weight == 0
    assert page_decode(replace(weighs, name="diverse"), classes=True)[0].consensus_weight == 2
    target = tmp_path / "site"
    target.mkdir()
    source = write_folder(tmp_path / "onnx", decode={"name": "diverse", "class_weight": 2.0})
    notes = write_site(source, target, "dogs", RUNTIME).notes
    assert json.loads((target / "model.json").read_text())["notes"] == notes
    assert len(notes) == 1


def test_what_is_impossible_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "site"
    target.mkdir()
    weighs = write_folder(tmp_path / "weighs", decode={"consensus_weight": 2.0})
    with pytest.raises(ConfigError, match=r"consensus_weight=2 needs a consensus predictor"):
        write_site(weighs, target, "dogs", RUNTIME)
    stretched = write_folder(tmp_path / "stretched", transform={**TRANSFORM, "stretch": "percentile"})
    with pytest.raises(ConfigError, match=r"data\.stretch=percentile, which the page does not have"):
        write_site(stretched, target, "dogs", RUNTIME)
    guarded = write_folder(tmp_path / "guarded", decode={"no_bad_ending": True})
    with pytest.raises(ConfigError, match="no_bad_ending=true needs the phrase statistics"):
        write_site(guarded, target, "dogs", RUNTIME)
    damaged = write_folder(tmp_path / "damaged")
    (damaged / "step.onnx").write_bytes(b"?")
    with pytest.raises(CheckpointError, match=r"step\.onnx was altered"):
        write_site(damaged, target, "dogs", RUNTIME)


def test_units_and_characters_are_joined_by_the_page(tmp_path: Path) -> None:
    for number, (tokenizer, separator) in enumerate((("ptb", " "), ("char", ""), ("bpe", None))):
        target = tmp_path / f"site{number}"
        target.mkdir()
        write_site(write_folder(tmp_path / f"onnx{number}", tokenizer={"name": tokenizer}), target, "dogs", RUNTIME)
        assert json.loads((target / "model.json").read_text())["separator"] == separator
