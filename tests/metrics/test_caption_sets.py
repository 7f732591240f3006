"""How different the captions of an image are, against the definitions computed with loops and against pycocoevalcap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from captioner.errors import DataError
from captioner.metrics import METRICS, TokenizedCaptions, bootstrap_intervals, score
from captioner.metrics.caption_sets import METRIC, div, inverse_document_frequencies, self_cider
from captioner.metrics.registry import is_lower_better, print_factor

Words = Sequence[str]
VOCABULARY = ["a", "dog", "cat", "runs", "sits", "on", "the", "grass", "sofa", "red", "blue", "with", "ball"]


def captions_of(seed: int, images: int = 7, count: int = 4, least: int = 0) -> TokenizedCaptions:
    """Random sets of captions of 0 to 9 words, and one to three references."""
    generator = np.random.default_rng(seed)

    def sentence(shortest: int) -> list[str]:
        return [str(word) for word in generator.choice(VOCABULARY, generator.integers(shortest, 10))]

    sets = [[sentence(least) for _ in range(count)] for _ in range(images)]
    references = [[sentence(1) for _ in range(generator.integers(1, 4))] for _ in range(images)]
    return TokenizedCaptions([one[0] for one in sets], references, sets=sets)


def vector(caption: Words, n: int, references: Sequence[Sequence[Words]]) -> dict[tuple[str, ...], float]:
    """TF-IDF by the definition: every count times log(N / max(1, df))."""
    found: dict[tuple[str, ...], float] = {}
    for start in range(len(caption) - n + 1):
        gram = tuple(caption[start : start + n])
        frequency = sum(
            any(tuple(one[i : i + n]) == gram for one in of_image for i in range(len(one) - n + 1))
            for of_image in references
        )
        found[gram] = found.get(gram, 0.0) + math.log(len(references) / max(1, frequency))
    return found


def cosine(one: dict[tuple[str, ...], float], other: dict[tuple[str, ...], float]) -> float:
    product = sum(value * other.get(gram, 0.0) for gram, value in one.items())
    norms = math.sqrt(sum(v * v for v in one.values())) * math.sqrt(sum(v * v for v in other.values()))
    return product / norms if norms else 0.0


def self_cider_by_hand(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """Singular values of the matrix of concatenated unit vectors M / 2, whose M M^T / 4 is the kernel of CIDEr."""
    parts = []
    for n in range(1, 5):
        vectors = [vector(caption, n, references) for caption in captions]
        grams = sorted({gram for one in vectors for gram in one})
        rows = np.array([[one.get(gram, 0.0) for gram in grams] for one in vectors]).reshape(len(captions), -1)
        norms = np.sqrt((rows**2).sum(axis=1, keepdims=True))
        parts.append(rows / np.where(norms > 0, norms, 1))
        for i, j in ((0, 1), (1, 0)):
            assert parts[-1][i] @ parts[-1][j] == pytest.approx(cosine(vectors[i], vectors[j]), abs=1e-12)
    singular = np.linalg.svd(np.concatenate(parts, axis=1) / 2, compute_uv=False)
    total = singular.sum()
    return 0.0 if total < 1e-12 else -math.log(singular[0] / total) / math.log(len(captions))


@pytest.mark.parametrize("seed", range(5))
def test_self_cider_is_its_definition(seed: int) -> None:
    captions = captions_of(seed, count=2 + seed)
    assert captions.sets is not None
    found = METRIC.compute(captions).per_image["Self_CIDEr"]
    expected = [self_cider_by_hand(of_image, captions.references) for of_image in captions.sets]
    np.testing.assert_allclose(found, expected, atol=1e-6)  # a root of an eigenvalue that rounding has left of 0
    assert ((found >= 0) & (found <= 1 + 1e-9)).all()


def test_self_cider_of_equal_and_of_unlike_captions() -> None:
    references = [[["a", "dog", "runs", "on", "the", "grass"]], [["the", "cat", "sits"]], [["red", "ball"]]]
    idf, most = inverse_document_frequencies(references)
    dog, cat = ["a", "dog", "runs", "on", "grass"], ["blue", "cat", "sits", "with", "ball"]
    assert self_cider([dog, dog, dog], idf, most) == pytest.approx(0, abs=1e-6)
    assert self_cider([dog, cat], idf, most) == pytest.approx(1)
    assert self_cider([["dog"], ["dog"]], idf, most) == pytest.approx(0, abs=1e-6), "shorter than four words"
    assert self_cider([[], []], idf, most) == 0
    mixed = self_cider([dog, dog, cat], idf, most)
    assert self_cider([cat, dog, dog], idf, most) == pytest.approx(mixed), "the order does not matter"
    assert 0 < mixed < 1


def test_div_is_different_ngrams_per_word() -> None:
    captions = [["a", "dog", "a", "dog"], ["a", "cat"]]
    assert div(captions, 1) == 3 / 6
    assert div(captions, 2) == 3 / 6, "a dog, dog a, a cat"
    assert div([[], []], 1) == 0
    assert div([["dog"]], 2) == 0


@pytest.mark.parametrize("seed", range(3))
def test_oracle_and_mean_are_those_of_the_captions_scored_one_by_one(seed: int) -> None:
    captions = captions_of(seed)
    assert captions.sets is not None
    each = np.array(
        [
            METRICS["CIDEr"]
            .compute(replace(captions, hypotheses=[one[place] for one in captions.sets]))
            .per_image["CIDEr"]
            for place in range(4)
        ]
    )
    found = METRIC.compute(captions).per_image
    np.testing.assert_array_equal(found["Oracle_CIDEr"], each.max(axis=0))
    np.testing.assert_allclose(found["Mean_CIDEr"], each.mean(axis=0), rtol=1e-12)
    assert (found["Oracle_CIDEr"] >= METRICS["CIDEr"].compute(captions).per_image["CIDEr"]).all()


@pytest.mark.parametrize("seed", range(3))
def test_mbleu_is_that_of_pycocoevalcap(seed: int) -> None:
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pip install 'captioner[meteor]'")
    captions = captions_of(seed, least=1)
    assert captions.sets is not None
    values = []
    for place in range(4):
        hypotheses = {i: [" ".join(one[place])] for i, one in enumerate(captions.sets)}
        others = {i: [" ".join(c) for j, c in enumerate(one) if j != place] for i, one in enumerate(captions.sets)}
        values.append(bleu.Bleu(4).compute_score(others, hypotheses, verbose=0)[0][3])
    assert METRIC.compute(captions).corpus["mBLEU_4"] == pytest.approx(np.mean(values), rel=1e-9)


def test_mbleu_of_equal_captions_is_1() -> None:
    dog, cat = ["a", "dog", "runs", "on", "the", "grass"], ["a", "cat", "sits", "on", "a", "sofa"]
    captions = TokenizedCaptions([dog, cat], [[dog], [cat]], sets=[[dog] * 3, [cat] * 3])
    assert METRIC.compute(captions).corpus["mBLEU_4"] == pytest.approx(1)


def test_score_takes_texts_and_has_intervals() -> None:
    dog, cat = "A dog runs on the grass.", "a cat sits on a red sofa"
    sets = {1: [dog, "the dog sits", "a ball"], 2: [cat, cat, cat], 3: ["a blue ball", "the grass", "a dog"]}
    references = {1: ["a dog on grass"], 2: ["the cat on the sofa", "a cat"], 3: ["a ball"]}
    hypotheses = {key: captions[0] for key, captions in sets.items()}
    scores = score(hypotheses, references, names=["CIDEr", "Caption_sets"], sets=sets)
    assert scores.per_image[2]["Self_CIDEr"] == pytest.approx(0, abs=1e-6)
    assert scores.per_image[2]["Div_1"] == 6 / 21
    assert scores.signature["caption_sets"] == {"captions_per_image": 3}
    assert score(hypotheses, references, names=["CIDEr"]).corpus["CIDEr"] == scores.corpus["CIDEr"]
    intervals = bootstrap_intervals(scores)
    for name in METRIC.scores:
        assert intervals[name].low - 1e-12 <= scores.corpus[name] <= intervals[name].high + 1e-12, name


def test_what_is_missing_is_said() -> None:
    captions, references = {1: "a dog", 2: "a cat"}, {1: ["a dog"], 2: ["a cat"]}
    assert "captions_per_image=5" in score(captions, references, names=["Caption_sets"]).unavailable["Caption_sets"]
    alone = score({1: "a dog"}, {1: ["a dog"]}, names=["Caption_sets"], sets={1: ["a dog", "a cat"]})
    assert "several" in alone.unavailable["Self_CIDEr"]
    assert alone.corpus["Oracle_CIDEr"] == 0
    with pytest.raises(DataError, match=r"have 1 or 2 captions: expected one number for all, at least 2"):
        score(captions, references, names=["Caption_sets"], sets={1: ["a dog"], 2: ["a cat", "a dog"]})
    with pytest.raises(DataError, match=r"have 1 captions"):
        score(captions, references, names=["Caption_sets"], sets={1: ["a dog"], 2: ["a cat"]})


def test_how_it_is_printed() -> None:
    assert is_lower_better("mBLEU_4")
    assert not is_lower_better("Self_CIDEr")
    assert [print_factor(name) for name in METRIC.scores] == [1, 100, 1, 1, 100, 100]
