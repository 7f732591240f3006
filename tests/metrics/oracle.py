"""The official scorers of pycocoevalcap, on tokenized captions."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

Tokens = Sequence[str]


def official(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """pycocoevalcap's corpus values and values per image of BLEU, ROUGE-L and CIDEr (CIDEr-D)."""
    results = {index: [" ".join(tokens)] for index, tokens in enumerate(hypotheses)}
    truths = {index: [" ".join(tokens) for tokens in captions] for index, captions in enumerate(references)}
    corpus: dict[str, float] = {}
    per_image: dict[str, NDArray[np.float64]] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        bleu, bleu_of_images = Bleu(4).compute_score(truths, results)
        for order in range(4):
            corpus[f"Bleu_{order + 1}"] = bleu[order]
            per_image[f"Bleu_{order + 1}"] = np.array(bleu_of_images[order])
        corpus["ROUGE_L"], per_image["ROUGE_L"] = Rouge().compute_score(truths, results)
        corpus["CIDEr"], per_image["CIDEr"] = Cider().compute_score(truths, results)
    return corpus, per_image
