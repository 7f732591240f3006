"""What captioners that never look at the image score on the generated scenes: `python benchmarks/scenes_blind.py`.

A data set is worth little where one sentence for every image does well. Each row says one sentence of all
test images; the last row is a person's sentence against the four other people's. Takes about a minute.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from captioner.data.synthetic.scenes.generate_scenes import generate_scene
from captioner.metrics import score
from captioner.text import ptb_tokenize

References = Mapping[int, Sequence[str]]
Figures = dict[str, float]


def sentences_of(split: str, size: int, seed: int = 0) -> dict[int, tuple[str, ...]]:
    """Image id → five sentences, without drawing anything."""
    scenes = (generate_scene(seed, split, index) for index in range(size))
    return {image_id: sentences for image_id, _, sentences in scenes}


def said_of_all(caption: str, references: References) -> Figures:
    """The scores of one caption for every image."""
    return score(dict.fromkeys(references, caption), references).corpus


def most_frequent(train: References) -> str:
    """The caption that training images have most often, by its tokens; of several, the first to occur."""
    counts = Counter(" ".join(ptb_tokenize(caption)) for captions in train.values() for caption in captions)
    return counts.most_common(1)[0][0]


def best_on(train: References, figure: str, candidates: int) -> str:
    """Of so many training captions drawn by lot, the one that scores best when it is said of 200 training images."""
    captions = sorted({caption for said in train.values() for caption in said})
    judges = dict(random.Random(0).sample(sorted(train.items()), min(200, len(train))))
    drawn = random.Random(1).sample(captions, min(candidates, len(captions)))
    return max(drawn, key=lambda caption: said_of_all(caption, judges)[figure])


def people(references: References) -> Figures:
    """Every image's first caption against its others."""
    return score(
        {image_id: captions[0] for image_id, captions in references.items()},
        {image_id: captions[1:] for image_id, captions in references.items()},
    ).corpus


def main() -> None:
    train, test = sentences_of("train", 1600), sentences_of("test", 200)
    rows = {"the most frequent caption": most_frequent(train)}
    for figure in ("Bleu_4", "CIDEr"):
        rows[f"the best of 1,000 by {figure}"] = best_on(train, figure, candidates=1000)
    print("| what is said of all 200 test images | the caption | BLEU-1 | BLEU-4 | ROUGE-L | CIDEr |")
    print("|---|---|---|---|---|---|")
    results = {name: (caption, said_of_all(caption, test)) for name, caption in rows.items()}
    results["a person, against the four others"] = ("its own", people(test))
    for name, (caption, figures) in results.items():
        shown = " | ".join(f"{figures[figure]:.3f}" for figure in ("Bleu_1", "Bleu_4", "ROUGE_L", "CIDEr"))
        print(f"| {name} | {caption} | {shown} |")


if __name__ == "__main__":
    main()
