"""METEOR as a training reward: 50 generated captions against five references each.

    python benchmarks/meteor_reward.py Flickr8k.token.txt

Captions of Flickr8k: those of 50 images are sampled captions of the 50 images before, as a model's are similar, not
equal. Milliseconds of processor time, the median of 20 batches: "new" sees its images for the first time, "seen" does
not; words were seen in both. One line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

from captioner.config import TokenizerConfig
from captioner.metrics.meteor.meteor import Meteor
from captioner.metrics.meteor_reward import MeteorReward
from captioner.text import build_tokenizer

BATCHES, IMAGES = 20, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", type=Path)
    by_image: dict[str, list[str]] = defaultdict(list)
    for line in parser.parse_args().captions.read_text("utf-8").splitlines()[: 5 * IMAGES * (BATCHES + 2)]:
        by_image[line.split("#")[0]].append(line.split("\t")[1])
    tokenize = build_tokenizer(TokenizerConfig()).tokenize_all
    tokenized = [tokenize(captions) for captions in by_image.values()]
    words = sorted({word for of_image in tokenized for tokens in of_image for word in tokens})
    number = {word: index for index, word in enumerate(words)}
    references = {image: [" ".join(tokens) for tokens in of_image] for image, of_image in enumerate(tokenized)}
    meteor = Meteor()
    meteor.lexicon.encode(words)
    reward = MeteorReward(meteor, references, lambda ids: [words[token] for token in ids])
    record = {"captions": IMAGES, "references": 5}
    for name in ("new", "seen"):
        times = []
        for batch in range(1, BATCHES + 1):
            images = range(batch * IMAGES, (batch + 1) * IMAGES)
            generated = [[number[word] for word in tokenized[image - IMAGES][0]] for image in images]
            start = time.process_time()
            reward(images, generated)
            times.append(1000 * (time.process_time() - start))
        record[f"{name}_milliseconds"] = round(statistics.median(times), 1)
    sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
