"""nltk's corpus BLEU, for comparison with papers that report it: `Bleu_4 (nltk)`.

It differs from the COCO evaluation's BLEU-4 by some 1e-5: nltk counts a caption shorter than n words as
having one n-gram (which matches nothing), where COCO counts none, and COCO adds 1e-9 to each count.
BLEU-1 is the same.
"""

from __future__ import annotations

from collections.abc import Sequence


def nltk_bleu_4(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> float:
    """Corpus BLEU-4 with nltk's defaults: equal weights, no smoothing. It warns where an n-gram never matches."""
    from nltk.translate.bleu_score import corpus_bleu  # nltk is slow to import

    return float(corpus_bleu(references, hypotheses))
