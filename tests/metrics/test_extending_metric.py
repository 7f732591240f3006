"""A metric from outside the package: registered from Python, or by an installed package's entry point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from captioner import registry
from captioner.config import CacheConfig, MetricConfig, TrainerConfig
from captioner.errors import ConfigError
from captioner.evaluation.evaluation import format_scores
from captioner.metrics import METRICS, Metric, MetricResult, TokenizedCaptions, bootstrap_intervals, format_table, score
from captioner.metrics.registry import monitored_scores, print_factor, validation_metrics
from captioner.training.logs import read_records
from captioner.training.loop import train
from captioner.training.setup import check_settings, prepare
from tests.tiny import tiny_config, with_trainer, write_tiny_data

HYPOTHESES = {1: "a dog runs", 2: "a cat"}
REFERENCES = {1: ["the dog runs fast"], 2: ["a cat"]}


def length_ratio(captions: TokenizedCaptions) -> MetricResult:
    longest = [max(map(len, references)) for references in captions.references]
    ratios = [min(len(words) / most, 1.0) for words, most in zip(captions.hypotheses, longest, strict=True)]
    return MetricResult(per_image={"Length_ratio": np.array(ratios)})


LENGTH_RATIO = Metric(length_ratio, scores=("Length_ratio",), monitors=("Length_ratio",))


@pytest.fixture
def registered() -> Iterator[None]:
    METRICS.register("Length_ratio", LENGTH_RATIO)
    yield
    METRICS.unregister("Length_ratio")


@pytest.mark.usefixtures("registered")
def test_a_registered_metric_is_scored_resampled_and_printed() -> None:
    scores = score(HYPOTHESES, REFERENCES, names=["Bleu", "Length_ratio"])
    assert scores.per_image[1]["Length_ratio"] == 0.75
    assert scores.corpus["Length_ratio"] == 0.875
    interval = bootstrap_intervals(scores, samples=50)["Length_ratio"]
    assert 0.75 <= interval.low <= interval.high <= 1
    assert "87.5" in format_table(scores)


@pytest.mark.usefixtures("registered")
def test_a_registered_metric_chooses_the_best_checkpoint(tmp_path: Path) -> None:
    assert "Length_ratio" in monitored_scores()
    assert validation_metrics("Length_ratio") == ["Bleu", "ROUGE_L", "CIDEr", "Length_ratio"]
    assert validation_metrics("CIDEr") == ["Bleu", "ROUGE_L", "CIDEr"]
    config = with_trainer(tiny_config(write_tiny_data(tmp_path / "data")), monitor="Length_ratio", max_steps=1)
    config = replace(
        config,
        cache=CacheConfig(directory=str(tmp_path / "cache")),
        metric=MetricConfig(names=["Length_ratio"]),
    )
    (tmp_path / "run").mkdir()
    result = train(prepare(config, tmp_path / "run"))
    (validation,) = (record for record in read_records(tmp_path / "run") if record["kind"] == "validation")
    assert 0 <= validation["Length_ratio"] <= 1
    assert list(result.evaluations["val"].scores.corpus) == ["Length_ratio"]


def test_an_installed_package_adds_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"Length_ratio": "tests.metrics.test_extending_metric:LENGTH_RATIO"})
    assert "Length_ratio" in METRICS
    assert score(HYPOTHESES, REFERENCES, names=["Length_ratio"]).corpus == {"Length_ratio": 0.875}
    assert TrainerConfig(monitor="Length_ratio").monitor == "Length_ratio"


def test_a_package_that_cannot_be_imported_is_named_where_its_metric_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"Length_ratio": "not_a_module:METRIC"})
    with pytest.raises(ConfigError, match=r"metric\.names=Length_ratio cannot be used: .*not_a_module:METRIC"):
        score(HYPOTHESES, REFERENCES, names=["Length_ratio"])
    assert score(HYPOTHESES, REFERENCES, names=["Bleu"]).corpus["Bleu_1"] > 0
    assert "CIDEr" in monitored_scores()


def test_a_package_that_cannot_be_imported_is_named_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, {"Length_ratio": "not_a_module:METRIC"})
    config = replace(tiny_config(write_tiny_data(tmp_path / "data")), metric=MetricConfig(names=["Length_ratio"]))
    with pytest.raises(ConfigError, match=r"metric\.names=Length_ratio cannot be used"):
        check_settings(config)


def test_a_length_is_not_printed_times_100() -> None:
    METRICS.register("Words", Metric(length_ratio, scores=("Words",), percentages=()))
    try:
        assert [print_factor(name) for name in ("Words", "CIDEr", "Novel", "Vocabulary", "a grounding score")] == [
            *(1, 100, 100, 1, 100)
        ]
        assert format_scores([("val", {"Words": 7.5, "CIDEr": 0.5})]).split()[-2:] == ["7.50", "50.00"]
    finally:
        METRICS.unregister("Words")


def test_two_metrics_of_one_name_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, {"Bleu": "tests.metrics.test_extending_metric:LENGTH_RATIO"})
    with pytest.raises(ConfigError, match=r"metric\.names=Bleu is provided by .*captioner itself"):
        score(HYPOTHESES, REFERENCES, names=["Bleu"])
    with pytest.raises(ConfigError, match="is taken"):
        METRICS.register("CIDEr", LENGTH_RATIO)


def test_a_score_of_two_metrics_is_noticed() -> None:
    """Declared by both, or computed by both without being declared."""
    METRICS.register("Mine", Metric(lambda captions: MetricResult(corpus={"CIDEr": 1.0}), scores=("CIDEr",)))
    try:
        for names in (["Mine"], ["CIDEr"], ["Bleu", "Mine"]):
            with pytest.raises(ConfigError, match=r"(Mine and CIDEr|CIDEr and Mine) both have a score named CIDEr"):
                score(HYPOTHESES, REFERENCES, names=names)
        assert score(HYPOTHESES, REFERENCES, names=["Bleu"]).corpus["Bleu_1"] > 0
    finally:
        METRICS.unregister("Mine")
    METRICS.register("Mine", Metric(lambda captions: MetricResult(corpus={"CIDEr": 1.0}), scores=("Other",)))
    try:
        with pytest.raises(ConfigError, match="metric Mine computed the score 'CIDEr', which a metric before it"):
            score(HYPOTHESES, REFERENCES, names=["CIDEr", "Mine"])
    finally:
        METRICS.unregister("Mine")


def test_an_unknown_metric_or_monitor_is_named_with_near_misses() -> None:
    with pytest.raises(ConfigError, match=r"metric\.names='Cider' does not exist\. Did you mean CIDEr"):
        MetricConfig(names=["Cider"])
    with pytest.raises(ConfigError, match=r"trainer\.monitor='METEOR_java' does not exist"):
        TrainerConfig(monitor="METEOR_java")


def install(monkeypatch: pytest.MonkeyPatch, points: dict[str, str]) -> None:
    """Let the environment have a package with these entry points of the group "captioner.metrics"."""
    found = [EntryPoint(name, value, "captioner.metrics") for name, value in points.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == "captioner.metrics" else [])
    monkeypatch.setattr(METRICS, "_plugins", None)
