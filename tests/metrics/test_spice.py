"""The SPICE adapter: errors for missing programs, and the program's results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from captioner.metrics import score, spice
from captioner.metrics.java import MetricUnavailable
from tests.metrics.meteor.test_jar import install_java


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with empty files in place of SPICE's jars."""
    for name in (spice.JAR, *spice.PARSER_JARS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(spice, "find_in_pycocoevalcap", lambda metric, name: tmp_path / name)
    return tmp_path


def test_missing_models_are_named(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_java(installed, monkeypatch, "")
    (installed / spice.PARSER_JARS[1]).unlink()
    with pytest.raises(MetricUnavailable, match=r"lacks stanford-corenlp-3\.6\.0-models\.jar\. .*get_stanford_models"):
        spice.spice(["a dog"], [["a dog"]])


def test_the_output_of_a_failed_program_is_reported(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_java(installed, monkeypatch, "sys.exit('no memory left')")
    scores = score({1: "a dog"}, {1: ["a dog"]}, names=["SPICE"])
    assert scores.unavailable["SPICE"].endswith("no memory left")


def test_results_are_read_by_image(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results may be in any order; a caption without a scene graph scores NaN."""
    program = """
import json
arguments = sys.argv[1:]
rows = json.load(open(arguments[arguments.index("-jar") + 2], encoding="utf-8"))
assert rows[0] == {"image_id": 0, "test": "a dog", "refs": ["the dog", "日本"]}, rows
results = [{"image_id": row["image_id"], "scores": {"All": {"f": [0.25, None][row["image_id"]]}}} for row in rows]
json.dump(results[::-1], open(arguments[arguments.index("-out") + 1], "w"))
"""
    install_java(installed, monkeypatch, program)
    values = spice.spice(["a dog", ""], [["the dog", "日本"], ["x"]])
    np.testing.assert_array_equal(values, [0.25, np.nan])
