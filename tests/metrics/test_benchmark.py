"""`benchmarks/metrics.py` runs, compares equal work, and prints one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "metrics.py"


@pytest.mark.slow
def test_it_runs_on_small_data() -> None:
    pytest.importorskip("pycocoevalcap", reason="the benchmark compares with pycocoevalcap")
    command = [sys.executable, str(SCRIPT), "--images", "300", "--largest", "2000", "--runs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    results = json.loads(done.stdout)
    assert results["whole_set"]["ratio"] > 5
    assert results["reward"]["warm_ratio"] > 5
    assert results["growth"]["images"] == [1000, 2000]
    assert results["tokenizer"]["captions"] == 2000
