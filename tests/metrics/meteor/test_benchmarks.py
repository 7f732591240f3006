"""The benchmarks of METEOR run, and compare equal work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.metrics.meteor.test_jar import needs_meteor

ROOT = Path(__file__).parents[3]


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


@pytest.mark.slow
@needs_meteor
def test_equality(real_data: Path) -> None:
    coco, flickr8k = real_data / "coco_text/captions_val2017.json", real_data / "flickr8k"
    lines = run("meteor_equality.py", "--coco", str(coco), "--flickr8k", str(flickr8k), "--first", "20").splitlines()
    assert lines[2].startswith("| COCO val2017 | 20 | 80 | 0 | 460 | 0 |")
    assert len(lines) == 9
    assert lines[-1] == "No caption differs."


@pytest.mark.slow
def test_reward(real_data: Path) -> None:
    pytest.importorskip("pycocoevalcap")
    found = json.loads(run("meteor_reward.py", str(real_data / "flickr8k/Flickr8k.token.txt")))
    assert (found["captions"], found["references"]) == (50, 5)
    assert found["seen_milliseconds"] > 0
