"""python -m captioner doctor: what it prints, what it writes, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.cli.doctor import main
from tests.cli.conftest import Command, SmallRun


@pytest.fixture
def run(small_run: SmallRun) -> str:
    """A run that was hardly trained: it says the same of every image."""
    return str(small_run("run"))


def test_a_serious_finding_is_exit_code_1(command: Command, run: str) -> None:
    result = command(main, "--checkpoint", run, "--images", "8", "--device", "cpu", "--out", "findings.json")
    assert result.code == 1, result.err
    assert "8 images of folder val" in result.out
    assert "\nserious" in result.out
    findings = json.loads(Path("findings.json").read_text())
    assert [finding["check"] for finding in findings][:2] == ["normalized input", "BatchNorm"]
    matters = next(finding for finding in findings if finding["check"] == "the image matters")
    assert matters["severity"] == "serious"
    assert abs(matters["values"]["gap"]) < 0.01
    arguments = ("--images", "8", "--json", "--data", "folder", "--data-root", "data", "--out", "findings.json")
    as_json = command(main, "--checkpoint", run, *arguments)  # findings are replaced
    assert json.loads(as_json.out) == findings == json.loads(Path("findings.json").read_text())


@pytest.mark.parametrize("text", ["a,b\n", '[{"image_id": 1, "caption": "a dog"}]', "{}", "\xff", "[" * 10**5])
def test_what_are_no_findings_is_not_replaced(command: Command, tmp_path: Path, text: str) -> None:
    file = tmp_path / "there.json"
    file.write_bytes(text.encode("latin-1"))
    for arguments, message in (
        (("--out", str(file)), "has no findings that could be replaced"),
        (("--out", str(tmp_path)), "has no findings that could be replaced"),
        (("--out", "no/where.json"), "does not exist"),
    ):
        result = command(main, "--checkpoint", "flickr8k", *arguments)  # said before anything is loaded
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert message in result.err
    assert file.read_bytes() == text.encode("latin-1")


def test_mistakes_are_one_message(command: Command, run: str) -> None:
    assert "--checkpoint is missing" in command(main, "--images", "3").err
    assert "Did you mean --images" in command(main, "--checkpoint", run, "--imags", "3").err
    assert "--images=0" in command(main, "--checkpoint", run, "--images", "0").err
    assert "There is no split 'vla'" in command(main, "--checkpoint", run, "--split", "vla").err
    assert "write --out f.json instead of output=f.json" in command(main, "output=f.json").err
    assert "--output was renamed: use --out" in command(main, "--output", "f.json").err
    assert "write --checkpoint run" in command(main, "run").err
    assert "expected a setting of the data set" in command(main, "--checkpoint", run, "--set", "seed=3").err
    assert "Did you mean data.limit" in command(main, "--checkpoint", run, "--set", "data.limt=3").err
    assert "no/where" in command(main, "--checkpoint", run, "--data-root", "no/where").err
    nowhere = command(main, "--checkpoint", "nowhere")
    assert nowhere.code == 2
    assert "Traceback" not in nowhere.err
