"""The metrics by name: those of this package, those registered from Python, and those of installed packages.

An installed package adds a metric by an entry point of the group "captioner.metrics", which names a
`captioner.metrics.metric.Metric`. docs/extending.md shows how.
"""

from __future__ import annotations

from collections.abc import Sequence

from captioner.errors import ConfigError, choose
from captioner.metrics.metric import Metric
from captioner.registry import Registry

METRICS: Registry[Metric] = Registry(
    "metric.names",
    "captioner.metrics",
    {
        "Bleu": "captioner.metrics.bleu:METRIC",
        "ROUGE_L": "captioner.metrics.rouge:METRIC",
        "CIDEr": "captioner.metrics.cider:METRIC",
        "CIDEr_plain": "captioner.metrics.cider:METRIC_PLAIN",
        "METEOR": "captioner.metrics.meteor.meteor_metric:METRIC",
        "METEOR_java": "captioner.metrics.meteor.meteor_metric:METRIC_JAVA",
        "SPICE": "captioner.metrics.spice:METRIC",
        "Bleu_nltk": "captioner.metrics.nltk_bleu:METRIC",
        "Diversity": "captioner.metrics.diversity:METRIC",
        "Caption_sets": "captioner.metrics.caption_sets:METRIC",
        "Fluency": "captioner.metrics.fluency:METRIC",
        "CHAIR": "captioner.metrics.chair:METRIC",
        "CHAIR_references": "captioner.metrics.chair:METRIC_REFERENCES",
    },
)

LIKELIHOODS = ("loss", "perplexity")
"""What tables show beside the metrics: a model's loss on the reference captions; see `ReferenceLoss`."""

VALIDATION_METRICS = ("Bleu", "ROUGE_L", "CIDEr")
"""What every validation during training reports, whatever `trainer.monitor` names: they take milliseconds."""


def monitored_scores() -> tuple[str, ...]:
    """The scores that `trainer.monitor` may name."""
    return tuple(score for metric in METRICS.loadable().values() for score in metric.monitors)


def validation_metrics(monitor: str) -> list[str]:
    """The metrics that a validation during training computes, so that the score `monitor` is among theirs."""
    of_monitor = [name for name, metric in METRICS.loadable().items() if monitor in metric.monitors]
    return list(dict.fromkeys([*VALIDATION_METRICS, *of_monitor]))


def print_factor(score: str) -> int:
    """What tables multiply a score by: 1 for a length, a count or whatever else is no percentage, otherwise 100."""
    known = score in LIKELIHOODS or any(score in metric.scores for metric in METRICS.loadable().values())
    return 1 if known and not is_percentage(score) else 100


def is_percentage(score: str) -> bool:
    """Whether papers print a score times 100."""
    for metric in METRICS.loadable().values():
        if score in metric.scores:
            return metric.percentages is None or score in metric.percentages
    return False


def needs_objects(names: Sequence[str]) -> bool:
    """Whether one of these metrics reads the annotated objects of images."""
    return any(METRICS[name].needs_objects for name in names)


def is_lower_better(score: str) -> bool:
    """Whether a lower value of this score is better."""
    return score in LIKELIHOODS or any(score in metric.lower_is_better for metric in METRICS.loadable().values())


def check_names(names: Sequence[str]) -> None:
    """ConfigError unless `names` is a list of names of `METRICS`."""
    if isinstance(names, str):
        raise ConfigError(f"metric.names={names!r} is one string: expected a list of names, such as [{names!r}].")
    for name in names:
        choose("metric.names", name, METRICS)
    for name in names:
        _check_scores(name)


def _check_scores(name: str) -> None:
    """ConfigError if another metric has a score of the same name, for tables could not tell them apart."""
    metrics = METRICS.loadable()
    for other, metric in metrics.items():
        both = [score for score in metric.scores if name in metrics and score in metrics[name].scores]
        if other != name and both:
            raise ConfigError(
                f"The metrics {name} and {other} both have a score named {both[0]}, and nothing could tell them apart: "
                "rename it in the metric that does not come with captioner, or uninstall that metric."
            )
