"""Consensus re-ranking of a beam's captions (Devlin et al. 2015), with a predicted consensus.

Devlin et al. ("Exploring nearest neighbor approaches for image captioning", section 3.2) choose among candidate
captions the one that is most similar to the captions of similar training images. Here a linear regression predicts what
these captions have in common, so that no training caption is stored.

With u_n(c) the vector of a caption's n-gram counts, each times idf(g) = ln N − ln max(1, df(g)), scaled to length 1
(N training images, df(g) of them with a caption that has g), the similarity of a caption to reference captions S is

    CIDEr(c, S) = 10/4 · Σ_n u_n(c) · m_n        m_n = 1/|S| · Σ_{s in S} u_n(s)        n = 1 … 4

(Vedantam et al. 2015, equations 1 to 4). It depends on S only by the mean vectors m, which are predicted from the
encoder's image vector v (D,), with a projection P (F, D), a weight matrix W (G, F) and G n-grams:

    m̂ = b + W x        x = z / ‖z‖        z = P (v − μ)

A search with `consensus_weight` λ ranks by score(c) + λ · ŝ(c), where ŝ(c) = 10/4 · Σ_n ū_n(c) · m̂_n. CIDEr-D clips the
counts of a caption at those of a reference, which has hardly any n-gram twice; so ū_n(c) is u_n(c) with each count
clipped at 1 after its length was computed. Without it, "a crowd of people in front of a crowd" would be rewarded twice.
An n-gram outside of the G is in the length of u_n(c), with the idf of `other_frequency`, and adds nothing else.

This module imports no torch; `captioner.analysis.fit_consensus` fits the parameters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from captioner.config import RANKED_SEARCHES, DecodeConfig
from captioner.decode.hypothesis import Hypothesis
from captioner.decode.quantized_rows import QuantizedRows
from captioner.errors import ConfigError

if TYPE_CHECKING:
    from jaxtyping import Float, Integer, UInt16

LONGEST = 4  # words of an n-gram
SCALE = 10.0


@dataclass(frozen=True)
class ConsensusRecord:
    """How a predictor was fitted, and how well it predicts images that were left out of the fit.

    images, ngrams: how many. dimensions: F. ridge: α. explained: the share of the variance of m that m̂ explains,
    1 − Σ‖m − m̂‖² / Σ‖m − mean of m‖². recognized: how often an image's own captions are more similar to m̂ than
    another image's. Both are of images that were left out.
    """

    data: str
    split: str
    images: int
    ngrams: int
    dimensions: int
    bits: int
    ridge: float
    explained: float
    recognized: float


@dataclass(frozen=True, eq=False)
class ConsensusPredictor:
    """Predicts how similar captions are to what people say about an image: see the module.

    mean: μ. projection: P. ngrams: (G, 4) token ids, with 0 (<PAD>) after shorter n-grams. document_frequencies: df of
    each. images: N. other_frequency: the df of all other n-grams. offset: b. weights: W. record: how it was fitted.
    """

    mean: Float[np.ndarray, " D"]
    projection: QuantizedRows
    ngrams: UInt16[np.ndarray, "G 4"]
    document_frequencies: Integer[np.ndarray, " G"]
    images: int
    other_frequency: float
    offset: Float[np.ndarray, " G"]
    weights: QuantizedRows
    record: ConsensusRecord

    def check(self) -> None:
        """ValueError where the parts do not fit each other."""
        for matrix in (self.projection, self.weights):
            matrix.check()
        shapes = {
            "mean": (self.mean.shape, (self.projection.columns,)),
            "weights": ((self.weights.columns,), self.projection.steps.shape),
            "ngrams": (self.ngrams.shape, (len(self.weights.steps), LONGEST)),
            "document_frequencies": (self.document_frequencies.shape, self.weights.steps.shape),
            "offset": (self.offset.shape, self.weights.steps.shape),
        }
        for name, (shape, expected) in shapes.items():
            if shape != expected:
                raise ValueError(f"{name} has the shape {shape}, and {expected} is expected")
        if self.images < 1 or not (np.isfinite(self.mean).all() and np.isfinite(self.offset).all()):
            raise ValueError("it has values that are not finite, or no image")

    def image_features(self, vector: Float[np.ndarray, " D"]) -> Float[np.ndarray, " F"]:
        """x of an image vector v; zeros where z is zero."""
        projected = self._projection @ (vector.astype(np.float64) - self.mean)
        length = float(np.linalg.norm(projected))
        features: np.ndarray = projected / length if length > 0 else projected
        return features

    def similarities(
        self, vector: Float[np.ndarray, " D"], captions: Sequence[Sequence[int]]
    ) -> Float[np.ndarray, " K"]:
        """ŝ of K captions, token ids without <END>, of the image of this vector. About 0 to 10; it can be negative."""
        clipped = [self.clipped_vector(caption) for caption in captions]
        used = sorted({gram for of_caption in clipped for gram in of_caption})
        rows = np.array(used, np.int64)
        predicted = self.offset[rows] + self.weights.rows(rows) @ self.image_features(vector)
        of_gram = dict(zip(used, predicted.tolist(), strict=True))
        return np.array([SCALE / LONGEST * sum(x * of_gram[gram] for gram, x in one.items()) for one in clipped])

    def clipped_vector(self, caption: Sequence[int]) -> dict[int, float]:
        """ū_1(c) … ū_4(c) together: the number of an n-gram of the table → its value; the others are left out."""
        found: dict[int, float] = {}
        for n in range(1, LONGEST + 1):
            counts = Counter(tuple(caption[i : i + n]) for i in range(len(caption) - n + 1))
            idf = {gram: self._idf.get(gram, self._other_idf) for gram in counts}
            length = math.sqrt(sum((count * idf[gram]) ** 2 for gram, count in counts.items()))
            if length > 0:
                found |= {self._numbers[gram]: idf[gram] / length for gram in counts if gram in self._numbers}
        return found

    @cached_property
    def _projection(self) -> Float[np.ndarray, "F D"]:
        return self.projection.matrix()

    @cached_property
    def _numbers(self) -> dict[tuple[int, ...], int]:
        """N-gram → its row."""
        return {tuple(token for token in gram if token): row for row, gram in enumerate(self.ngrams.tolist())}

    @cached_property
    def _idf(self) -> dict[tuple[int, ...], float]:
        idf = np.log(self.images) - np.log(np.maximum(self.document_frequencies.astype(np.float64), 1))
        return dict(zip(self._numbers, idf.tolist(), strict=True))

    @property
    def _other_idf(self) -> float:
        return math.log(self.images) - math.log(max(self.other_frequency, 1.0))


def weighs_consensus(config: DecodeConfig) -> bool:
    """Whether a search ranks by the predicted consensus as well."""
    return config.name in RANKED_SEARCHES and config.consensus_weight > 0


def check_consensus(config: DecodeConfig, consensus: ConsensusPredictor | None) -> None:
    """ConfigError for a search that needs a predictor where there is none."""
    if weighs_consensus(config) and consensus is None:
        raise ConfigError(
            f"decode.consensus_weight={config.consensus_weight:g} needs a consensus predictor, and this captioner has "
            "none. Fit one to its checkpoint (python -m captioner consensus --checkpoint RUN; where average=… has "
            "changed the encoder, to an export of it), or use decode.consensus_weight=0."
        )


def consensus_search(
    search: Callable[[int], list[list[Hypothesis]]],
    vectors: Callable[[], Float[np.ndarray, "B D"]],
    config: DecodeConfig,
    n_best: int,
    consensus: ConsensusPredictor | None,
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of every image by `search`, ranked by score(c) + λ · ŝ(c), which is then their score.

    search: n → the n best hypotheses of each image; of all places of a beam, where λ = `consensus_weight` is not 0.
    vectors: of the images. Finished hypotheses come first, and equal ones stay in their order.
    ConfigError as `check_consensus`.
    """
    check_consensus(config, consensus)
    if consensus is None or not weighs_consensus(config) or n_best < 1:
        return search(n_best)
    found = search(config.beam_width)
    return [
        _rerank(of_image, consensus.similarities(vector, [one.tokens for one in of_image]), config.consensus_weight)[
            :n_best
        ]
        for of_image, vector in zip(found, vectors(), strict=True)
    ]


def _rerank(hypotheses: Sequence[Hypothesis], similarities: Float[np.ndarray, " K"], weight: float) -> list[Hypothesis]:
    changed = [
        replace(one, score=one.score + weight * similarity)
        for one, similarity in zip(hypotheses, similarities.tolist(), strict=True)
    ]
    return sorted(changed, key=lambda one: one.rank)
