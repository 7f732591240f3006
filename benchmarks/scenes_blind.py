"""Scores on the synthetic scenes of captions that ignore the image: `python benchmarks/scenes_blind.py`.

A data set is of little use if one caption for all images scores high. Each row gives all test images the same caption;
the last row scores one reference caption of each image against the four others. Takes about a minute.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from captioner.data.synthetic.scenes.generate_scenes import generate_scene
from captioner.metrics import score
from captioner.text import ptb_tokenize

References = Mapping[int, Sequence[str]]
Metrics = dict[str, float]


def captions_of(split: str, size: int, seed: int = 0) -> dict[int, tuple[str, ...]]:
    """Image id → five captions, without rendering the images."""
    scenes = (generate_scene(seed, split, index) for index in range(size))
    return {image_id: captions for image_id, _, captions in scenes}


def score_for_all(caption: str, references: References) -> Metrics:
    """The scores of the same caption for every image."""
    return score(dict.fromkeys(references, caption), references).corpus


def most_frequent(train: References) -> str:
    """The most frequent training caption, by its tokens; of several, the first."""
    counts = Counter(" ".join(ptb_tokenize(caption)) for captions in train.values() for caption in captions)
    return counts.most_common(1)[0][0]


def best_on(train: References, metric: str, candidates: int) -> str:
    """Of `candidates` sampled training captions, the one with the best score for 200 training images."""
    captions = sorted({caption for of_image in train.values() for caption in of_image})
    images = dict(random.Random(0).sample(sorted(train.items()), min(200, len(train))))
    sampled = random.Random(1).sample(captions, min(candidates, len(captions)))
    return max(sampled, key=lambda caption: score_for_all(caption, images)[metric])


def human(references: References) -> Metrics:
    """Scores of every image's first reference caption against the others."""
    return score(
        {image_id: captions[0] for image_id, captions in references.items()},
        {image_id: captions[1:] for image_id, captions in references.items()},
    ).corpus


def main() -> None:
    train, test = captions_of("train", 1600), captions_of("test", 200)
    rows = {"the most frequent caption": most_frequent(train)}
    for metric in ("Bleu_4", "CIDEr"):
        rows[f"the best of 1,000 by {metric}"] = best_on(train, metric, candidates=1000)
    print("| the same caption for all 200 test images | caption | BLEU-1 | BLEU-4 | ROUGE-L | CIDEr |")
    print("|---|---|---|---|---|---|")
    results = {name: (caption, score_for_all(caption, test)) for name, caption in rows.items()}
    results["a reference caption, against the four others"] = ("one per image", human(test))
    for name, (caption, scores) in results.items():
        shown = " | ".join(f"{scores[metric]:.3f}" for metric in ("Bleu_1", "Bleu_4", "ROUGE_L", "CIDEr"))
        print(f"| {name} | {caption} | {shown} |")


if __name__ == "__main__":
    main()
