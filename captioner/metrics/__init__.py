"""Metrics: the official caption scores, computed fast and, except for METEOR and SPICE, without Java.

    from captioner.metrics import score
    score({1: "A dog runs."}, {1: ["A dog is running.", "The dog ran."]}).corpus["Bleu_1"]

Each metric has its own module, which states its equation; `METRICS` names them all; `scorer` computes them.
docs/metrics.md compares them with other tools.
"""

from captioner.metrics.bleu_reward import BleuReward
from captioner.metrics.bootstrap import Comparison, Interval, bootstrap_intervals, paired_bootstrap
from captioner.metrics.cider_reward import CiderReward
from captioner.metrics.coco_results import read_results, write_results
from captioner.metrics.document_frequencies import DocumentFrequencies
from captioner.metrics.format import format_comparison, format_table, signature_line, write_per_image_csv
from captioner.metrics.metric import Metric, MetricResult, TokenizedCaptions
from captioner.metrics.registry import METRICS
from captioner.metrics.scorer import Scores, TokenScores, score, score_tokens

__all__ = [
    "METRICS",
    "BleuReward",
    "CiderReward",
    "Comparison",
    "DocumentFrequencies",
    "Interval",
    "Metric",
    "MetricResult",
    "Scores",
    "TokenScores",
    "TokenizedCaptions",
    "bootstrap_intervals",
    "format_comparison",
    "format_table",
    "paired_bootstrap",
    "read_results",
    "score",
    "score_tokens",
    "signature_line",
    "write_per_image_csv",
    "write_results",
]
