"""Metrics: the official caption scores, without Java, fast."""

from captioner.metrics.scorer import Scores, TokenScores, score, score_tokens

__all__ = ["Scores", "TokenScores", "score", "score_tokens"]
