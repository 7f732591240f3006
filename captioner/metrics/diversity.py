"""Diversity, novelty and form of captions: what the scores against references do not show.

A model can score well with a few generic captions, and one that is trained on a score learns to end
captions in "a" or "of a" (Guo et al. 2018).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from captioner.metrics.metric import Caption, Metric, MetricResult, TokenizedCaptions

BAD_ENDINGS = frozenset(
    {"a", "an", "the", "his", "its", "their", "my", "your"}
    | {"in", "on", "at", "of", "to", "for", "from", "with", "near", "into", "onto"}
    | {"and", "or", "but", "as", "while", "is", "are", "was", "were", "be"}
)
"""English words that hardly any reference caption ends in: 0.6 % of 60,014 captions of COCO and Flickr8k."""


def diversity(hypotheses: Sequence[Caption]) -> dict[str, float]:
    """Scores of one or more generated captions, without references.

    Distinct_1, Distinct_2: distinct words (bigrams) divided by all words (bigrams) (Li et al. 2016, section 5.2).
        They fall as the number of captions grows: compare sets of equal size.
    Vocabulary: number of distinct words.
    Mean_length: words per caption.
    Bad_ending: share of captions whose last word is one of BAD_ENDINGS, or that are empty.
    """
    words = [word for caption in hypotheses for word in caption]
    pairs = [pair for caption in hypotheses for pair in pairwise(caption)]
    vocabulary = set(words)
    return {
        "Distinct_1": len(vocabulary) / max(1, len(words)),
        "Distinct_2": len(set(pairs)) / max(1, len(pairs)),
        "Vocabulary": float(len(vocabulary)),
        "Mean_length": len(words) / len(hypotheses),
        "Bad_ending": sum(not caption or caption[-1] in BAD_ENDINGS for caption in hypotheses) / len(hypotheses),
    }


def share_novel(hypotheses: Sequence[Caption], training_captions: Iterable[Caption]) -> float:
    """The share of captions that are not equal, word for word, to a training caption."""
    seen = {tuple(caption) for caption in training_captions}
    return sum(tuple(caption) not in seen for caption in hypotheses) / len(hypotheses)


def rare_word_recall(
    hypotheses: Sequence[Caption],
    references: Sequence[Sequence[Caption]],
    training_captions: Iterable[Caption],
    most: int,
) -> float | None:
    """The share of the rare words in each image's references that its generated caption contains too.

    A word is rare if it occurs in the training captions at least once and at most `most` times. It counts once
    per image. None if the references contain no rare word.
    """
    counts = Counter(word for caption in training_captions for word in caption)
    rare = {word for word, count in counts.items() if count <= most}
    total = recalled = 0
    for hypothesis, captions in zip(hypotheses, references, strict=True):
        of_image = rare.intersection(set().union(*captions))
        total += len(of_image)
        recalled += len(of_image.intersection(hypothesis))
    return recalled / total if total else None


def _compute(captions: TokenizedCaptions) -> MetricResult:
    result = MetricResult(corpus=diversity(captions.hypotheses))
    if captions.training is None:
        result.unavailable["Novel"] = "it needs the training captions (`training_captions`), which were not given"
        return result
    result.corpus["Novel"] = share_novel(captions.hypotheses, captions.training)
    if captions.rare_at_most is not None:
        recall = rare_word_recall(captions.hypotheses, captions.references, captions.training, captions.rare_at_most)
        if recall is None:
            result.unavailable["Rare_recall"] = "no reference contains a rare word"
        else:
            result.corpus["Rare_recall"] = recall
    return result


METRIC = Metric(
    _compute,
    scores=("Distinct_1", "Distinct_2", "Vocabulary", "Mean_length", "Bad_ending", "Novel", "Rare_recall"),
    percentages=("Bad_ending", "Novel", "Rare_recall"),
    lower_is_better=("Bad_ending",),
    needs_training_captions=True,
)
