"""Real processes are killed and resumed: a small part of `benchmarks/kill_and_resume.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"


@pytest.mark.slow
def test_three_kills() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--kills", "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["kills"], figures["equal"]) == (3, 3)
