"""METEOR equals that of the official jar; one process for many calls; errors for missing programs."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from captioner.config import TokenizerConfig
from captioner.metrics import score
from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor.jar import MeteorJar, shared_jar
from captioner.text import build_tokenizer

needs_meteor = pytest.mark.skipif(
    shutil.which("java") is None or importlib.util.find_spec("pycocoevalcap") is None,
    reason="METEOR needs `java` and pycocoevalcap",
)


def install_java(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """A `java` that is a Python program, alone on the PATH."""
    (folder / "java").write_text(f"#!{sys.executable}\nimport sys\n{program}", "utf-8")
    (folder / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MetricUnavailable, match="METEOR needs a Java runtime"):
        MeteorJar()


def test_without_the_jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_java(tmp_path, monkeypatch, "")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricUnavailable, match=r"pip install 'captioner\[meteor\]'"):
        MeteorJar()


@pytest.mark.parametrize("program", ["sys.exit('no memory left')", "sys.stdin.readline(); sys.exit('no memory left')"])
def test_the_output_of_a_failed_process_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    pytest.importorskip("pycocoevalcap")
    install_java(tmp_path, monkeypatch, program)
    with MeteorJar() as meteor, pytest.raises(MetricUnavailable, match="no memory left"):
        meteor.statistics(["a dog"], [["a dog"]])
    assert not meteor.is_running


def test_requests_equal_those_of_the_official_scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line by line; METEOR's own separator in a caption does not shift the fields."""
    pytest.importorskip("pycocoevalcap")
    log = tmp_path / "asked.txt"
    echo = f"""
with open({str(log)!r}, "w") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
    for line in sys.stdin:
        log.write(line)
        print(*range(23), flush=True)
"""
    install_java(tmp_path, monkeypatch, echo)
    with MeteorJar() as meteor:
        statistics = meteor.statistics(["a ||| dog", "日本"], [["one", "two"], ["x|||y"]])
    np.testing.assert_array_equal(statistics, np.arange(23.0)[None].repeat(2, axis=0))
    arguments, *lines = log.read_text("utf-8").splitlines()
    assert arguments.endswith("meteor-1.5.jar - - -stdio -l en -norm")
    assert lines == ["SCORE ||| one ||| two ||| a dog", "SCORE ||| xy ||| 日本"]


@pytest.fixture(scope="module")
def captions(request: pytest.FixtureRequest) -> dict[int, list[str]]:
    """400 images' captions, tokenized and joined."""
    folder = request.getfixturevalue("real_data")
    annotations = json.loads((folder / "coco_text" / "captions_val2017.json").read_text("utf-8"))["annotations"]
    by_image = defaultdict(list)
    for row in annotations:
        by_image[row["image_id"]].append(row["caption"])
    tokenizer = build_tokenizer(TokenizerConfig())
    return {i: [" ".join(tokenizer.tokenize(text)) for text in texts] for i, texts in list(by_image.items())[:400]}


@pytest.fixture(scope="module")
def meteor() -> Iterator[MeteorJar]:
    with MeteorJar() as process:
        yield process


@pytest.mark.slow
@needs_meteor
def test_official(captions: dict[int, list[str]], meteor: MeteorJar) -> None:
    from pycocoevalcap.meteor.meteor import Meteor as OfficialMeteor

    hypotheses = {i: texts[0] for i, texts in captions.items()} | {-1: "", -2: "犬 é", -3: "same words", -4: "x"}
    references = {i: texts[1:] for i, texts in captions.items()} | {-1: ["a"], -2: ["犬"], -3: ["same words"], -4: [""]}
    official = OfficialMeteor()
    try:
        corpus, per_image = official.compute_score(references, {i: [text] for i, text in hypotheses.items()})
    finally:
        official.meteor_p.kill()
        official.meteor_p.wait()
        for stream in (official.meteor_p.stdin, official.meteor_p.stdout, official.meteor_p.stderr):
            stream.close()
    ours, our_corpus = meteor.evaluate(meteor.statistics(list(hypotheses.values()), list(references.values())))
    np.testing.assert_allclose(ours, per_image, rtol=0, atol=1e-9)
    assert our_corpus == pytest.approx(corpus, abs=1e-9)
    assert our_corpus != pytest.approx(np.mean(ours), abs=1e-4), "the corpus value is not the mean"


@pytest.mark.slow
@needs_meteor
def test_corpus_scores_of_subsets_from_their_statistics(captions: dict[int, list[str]], meteor: MeteorJar) -> None:
    """The weighted sums of the statistics give the corpus score of a bootstrap sample."""
    hypotheses = [texts[0] for texts in captions.values()] + ["two words", "one more caption"]
    references = [texts[1:] for texts in captions.values()] + [["two words"], ["one more caption", "x"]]
    statistics = meteor.statistics(hypotheses, references)
    generator = np.random.default_rng(0)
    samples = [
        generator.integers(size=size, low=len(hypotheses) - 30, high=len(hypotheses)) for size in (1, 2, 5, 30, 30)
    ]
    weights = np.stack([np.bincount(rows, minlength=len(hypotheses)) for rows in samples]).astype(np.float64)
    expected = [meteor.evaluate(statistics[rows])[1] for rows in samples]
    np.testing.assert_allclose(meteor.evaluate_totals(statistics, weights), expected, rtol=0, atol=1e-12)


@pytest.mark.slow
@needs_meteor
def test_one_process_is_used_for_all_calls() -> None:
    package = Path(importlib.util.find_spec("pycocoevalcap").submodule_search_locations[0])
    files_before = set(package.rglob("*"))
    first = score({1: "a dog"}, {1: ["the dog"]}, names=["METEOR_java"])
    process = shared_jar()
    assert score({1: "a dog"}, {1: ["the dog"]}, names=["METEOR_java"]).corpus == first.corpus
    assert 0 < first.corpus["METEOR_java"] < 1
    assert first.per_image[1].keys() == {"METEOR_java"}
    assert shared_jar() is process
    process.close()
    assert not process.is_running
    assert set(package.rglob("*")) == files_before
