"""`captioner export --web`: the folder, its messages, and what stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.cli import export
from captioner.demo.web import onnxruntime_web

BINARY, MODULE = onnxruntime_web.BINARY, onnxruntime_web.MODULE
RUNTIME = {MODULE: b"export const env = {};", BINARY: b"\0asm"}


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files that count as those of onnxruntime-web."""
    import hashlib

    folder = tmp_path / "runtime"
    folder.mkdir()
    for name, content in RUNTIME.items():
        (folder / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in RUNTIME.items()}
    monkeypatch.setattr(onnxruntime_web, "SHA256", sums)
    return folder


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Exit code, output and messages of `captioner export`."""
    monkeypatch.setattr("sys.argv", ["export", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        export.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_the_bundled_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime: Path
) -> None:
    """Its ONNX files are used as they are. The sizes are printed, and what the page lacks."""
    given = ("--checkpoint", "flickr8k", "--onnxruntime-web", runtime)
    code, out, err = run(capsys, monkeypatch, *given, "--web", tmp_path / "site")
    assert code == 0, err
    assert "Written: " in out
    assert "model 2" in out
    assert "runtime 0.00 MB" in out
    assert "python -m http.server" in out
    assert err == "", "the page has all that the model has"
    model = json.loads((tmp_path / "site" / "model.json").read_text())
    assert model["name"] == "flickr8k"
    assert model["decode"]["class_weight"] == 3
    assert model["decode"]["consensus_weight"] > 0
    assert model["consensus"]["ngrams"] > 0
    assert {"class_map.onnx", "classes.onnx", "classes.json", "tags.json"} <= {
        path.name for path in (tmp_path / "site").iterdir()
    }
    assert {path.name for path in tmp_path.iterdir()} == {"runtime", "site"}

    code, _, err = run(capsys, monkeypatch, *given, "--web", tmp_path / "site")
    assert code == 2
    assert "exists already" in err
    (tmp_path / "site" / "old").write_text("of an earlier export")
    code, _, err = run(capsys, monkeypatch, *given, "--web", tmp_path / "site", "--replace", "--name", "Two dogs")
    assert code == 0, err
    assert not (tmp_path / "site" / "old").exists()
    assert json.loads((tmp_path / "site" / "model.json").read_text())["name"] == "Two dogs"


def test_mistakes_are_one_message_and_change_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("mine")
    web = ("--web", tmp_path / "site")
    bundled = ("--checkpoint", "flickr8k")
    for arguments, message in (
        ((*bundled, *web, "--out", tmp_path / "out"), "Give one of --out PATH, --onnx DIR, --web DIR and --add-onnx"),
        (
            (*bundled, "--out", tmp_path / "out", "--onnxruntime-web", runtime),
            "--onnxruntime-web has no effect with --out",
        ),
        ((*bundled, *web, "--notes", "x.md"), "--notes has no effect with --web"),
        ((*bundled, *web, "--precision", "int8"), "--precision int8 needs --photos DIR"),
        ((*bundled, *web, "--photos", tmp_path), "--photos has no effect with --precision float32"),
        ((*bundled, "--web", mine, "--replace", "--onnxruntime-web", runtime), "is not a folder that --web wrote"),
        ((*bundled, "--web", tmp_path / "no" / "site"), "does not exist"),
        ((*bundled, *web, "--onnxruntime-web", tmp_path), "has no ort.wasm"),
        (("--checkpoint", "flickr8", *web), "flickr8k"),
        ((*bundled, "--webb", tmp_path / "site"), "--web"),
    ):
        code, out, err = run(capsys, monkeypatch, *arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err
        assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} == {"runtime", "mine"}
    assert (mine / "index.html").read_text() == "mine"
