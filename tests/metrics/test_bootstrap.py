"""The bootstrap: samples, intervals and p-values."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from captioner.config import TokenizerConfig
from captioner.errors import ConfigError, DataError
from captioner.metrics import Scores, bootstrap_intervals, format_comparison, format_table, paired_bootstrap, score
from captioner.metrics.bleu import BleuStatistics
from captioner.metrics.bootstrap import Comparison

NAMES = ("Bleu", "ROUGE_L", "CIDEr")
WHITESPACE = TokenizerConfig(name="whitespace")


def random_caption(generator: random.Random) -> list[str]:
    return [f"w{int(30 * generator.random() ** 2)}" for _ in range(generator.randint(5, 12))]


def system(quality: float, seed: int, images: int = 150) -> Scores:
    """The scores of a system that copies each word of a reference with probability `quality`."""
    truth = random.Random(0)
    references = {index: [random_caption(truth), random_caption(truth)] for index in range(images)}
    generator = random.Random(seed)
    hypotheses = {
        index: " ".join(word if generator.random() < quality else "wrong" for word in captions[0])
        for index, captions in references.items()
    }
    texts = {index: [" ".join(words) for words in captions] for index, captions in references.items()}
    return score(hypotheses, texts, names=NAMES, tokenizer=WHITESPACE)


def test_a_bootstrap_sample_is_scored_as_a_corpus() -> None:
    """BLEU of a sample is the corpus BLEU of its images; CIDEr of a sample is their mean."""
    from captioner.metrics import bootstrap

    scores = system(0.7, seed=1, images=20)
    order = bootstrap._image_order(scores)
    resampled = bootstrap._resampled_scores(scores, order, samples=3, seed=5)
    (weights,) = bootstrap.image_weights(20, 3, seed=5)
    assert weights.sum(axis=1).tolist() == [20, 20, 20]
    rows = [list(scores.per_image).index(image_id) for image_id in order]
    statistics = scores.statistics["Bleu"]
    for sample in range(3):
        chosen = np.repeat(rows, weights[sample].astype(int))
        matched, proposed = statistics.matched[chosen].sum(axis=0), statistics.proposed[chosen].sum(axis=0)
        lengths = statistics.hypothesis_length[chosen].sum() / statistics.reference_length[chosen].sum()
        bleu_2 = np.sqrt(np.prod((matched / proposed)[:2])) * np.exp(min(0, 1 - 1 / lengths))
        assert resampled["Bleu_2"][sample] == pytest.approx(bleu_2, rel=1e-6)
        cider = np.mean([list(scores.per_image.values())[row]["CIDEr"] for row in chosen])
        assert resampled["CIDEr"][sample] == pytest.approx(cider)


def test_intervals_contain_the_value_and_grow_with_confidence() -> None:
    scores = system(0.7, seed=1)
    narrow = bootstrap_intervals(scores, samples=500, confidence=0.5)
    wide = bootstrap_intervals(scores, samples=500, confidence=0.99)
    assert narrow.keys() == wide.keys() == scores.corpus.keys()
    for name, value in scores.corpus.items():
        assert wide[name].value == value
        assert wide[name].low < narrow[name].low < value < narrow[name].high < wide[name].high


def test_the_interval_of_a_mean_equals_the_normal_approximation() -> None:
    scores = system(0.7, seed=1, images=400)
    interval = bootstrap_intervals(scores, samples=2000)["CIDEr"]
    values = [values["CIDEr"] for values in scores.per_image.values()]
    half = 1.96 * np.std(values) / np.sqrt(len(values))
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)


def test_better_equal_and_worse_systems() -> None:
    good, bad = system(0.8, seed=1), system(0.5, seed=2)
    better = paired_bootstrap(bad, good)
    assert better.keys() == good.corpus.keys()
    for name, row in better.items():
        assert row.difference == good.corpus[name] - bad.corpus[name] > 0
        assert 0 < row.low < row.difference < row.high
        assert row.p_value == pytest.approx(1 / 1001)
    worse = paired_bootstrap(good, bad)
    for name, row in worse.items():
        assert row.difference == -better[name].difference
        assert (row.low, row.high) == pytest.approx((-better[name].high, -better[name].low))
    for row in paired_bootstrap(good, good).values():
        assert (row.difference, row.low, row.high, row.p_value) == (0, 0, 0, 1)


def test_equal_systems_differ_significantly_as_often_as_the_level_says() -> None:
    """200 pairs of equally good systems: p < 0.1 in about a tenth of them."""
    p_values = [
        paired_bootstrap(system(0.7, 2 * i, 60), system(0.7, 2 * i + 1, 60), samples=300)["CIDEr"].p_value
        for i in range(200)
    ]
    assert 0.03 < np.mean(np.array(p_values) < 0.1) < 0.17
    assert 0.38 < np.mean(p_values) < 0.62


def test_a_seed_fixes_the_result_for_any_order_of_the_images() -> None:
    first, second = system(0.7, seed=1), system(0.6, seed=2)
    backwards = Scores(
        corpus=second.corpus,
        per_image=dict(reversed(second.per_image.items())),
        unavailable={},
        signature=second.signature,
        means=second.means,
        statistics={"Bleu": BleuStatistics(*(part[::-1] for part in second.statistics["Bleu"]))},
    )
    expected = paired_bootstrap(first, second, samples=150, seed=3)
    assert paired_bootstrap(first, backwards, samples=150, seed=3) == expected
    assert paired_bootstrap(first, second, samples=150, seed=4) != expected


def test_scores_that_cannot_be_compared() -> None:
    references = {1: ["a dog runs"], 2: ["two cats"]}
    one = score({1: "a dog", 2: "cats"}, references)
    other_tokens = score({1: "a dog", 2: "cats"}, references, tokenizer=WHITESPACE)
    with pytest.raises(DataError, match="differ in tokenizer"):
        paired_bootstrap(one, other_tokens)
    other_references = score({1: "a dog", 2: "cats"}, {1: ["a cat runs"], 2: ["two dogs"]})
    with pytest.raises(DataError, match="differ in references_sha256"):
        paired_bootstrap(one, other_references)
    with pytest.raises(ConfigError, match="samples=0"):
        paired_bootstrap(one, one, samples=0)
    with pytest.raises(ConfigError, match=r"confidence=95"):
        bootstrap_intervals(one, confidence=95)


def test_comparisons_are_readable() -> None:
    """Which system is subtracted; a difference is never shown as 0.00; equal systems differ by 0 with p = 1."""
    rows = {
        "CIDEr": Comparison(0.5, 0.500004, 0.000004, 0.000001, 0.000007, 1 / 1001),
        "Bleu_4": Comparison(0.25, 0.3, 0.05, -0.01, 0.11, 0.0849),
        "ROUGE_L": Comparison(0.25, 0.25, 0.0, 0.0, 0.0, 1.0),
        "Vocabulary": Comparison(40, 38, -2, -3, -1, 0.0049),
    }
    table = format_comparison(rows, "ours", "theirs").splitlines()
    found = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in table[2:-1]}
    assert found == {
        "CIDEr": ["50.0000", "50.0004", "+0.0004", "+0.0001 … +0.0007", "< 0.001"],
        "Bleu_4": ["25.00", "30.00", "+5.00", "-1.00 … +11.00", "0.085"],
        "ROUGE_L": ["25.00", "25.00", "0", "+0.00 … +0.00", "1.000"],
        "Vocabulary": ["40.00", "38.00", "-2.00", "-3.00 … -1.00", "0.005"],
    }
    assert table[-1].startswith("difference: theirs minus ours;")


def test_a_difference_of_rounding_is_none() -> None:
    """The same scores, but for the last bit, do not differ, however many samples show the same last bit."""
    first = system(0.7, seed=1, images=30)
    other = {name: value * (1 + 2**-52) for name, value in first.corpus.items()}
    assert other != first.corpus
    for row in paired_bootstrap(first, replace(first, corpus=other), samples=100).values():
        assert (row.difference, row.p_value) == (0, 1)


def test_tables_show_intervals_and_comparisons() -> None:
    first, second = system(0.7, seed=1), system(0.6, seed=2)
    table = format_comparison(paired_bootstrap(first, second, samples=100), "ours", "theirs")
    header = [cell.strip() for cell in table.splitlines()[0].strip("|").split("|")]
    assert header == ["score", "ours", "theirs", "difference", "interval", "p"]
    assert "…" in format_table(first, bootstrap_intervals(first, samples=100)).splitlines()[2]
