"""nltk's corpus BLEU, for comparison with papers that report it: `Bleu_4 (nltk)`.

It differs from the COCO evaluation's BLEU-4 by about 1e-5: nltk counts one n-gram (which matches nothing)
for a caption shorter than n words, COCO counts none, and COCO adds 1e-9 to each count. BLEU-1 is equal.
"""

from __future__ import annotations

from collections.abc import Sequence

from captioner.metrics.metric import Metric, MetricResult

SCORE = "Bleu_4 (nltk)"


def nltk_bleu_4(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """Corpus BLEU-4 with nltk's defaults: equal weights, no smoothing. It warns if no n-gram matches."""
    from nltk.translate.bleu_score import corpus_bleu  # nltk is slow to import

    return float(corpus_bleu(references, hypotheses))


METRIC = Metric(
    lambda captions: MetricResult(corpus={SCORE: nltk_bleu_4(captions.hypotheses, captions.references)}),
    scores=(SCORE,),
)
