"""Is METEOR in Python equal to the jar? Sets of captions × statistics, and every caption that differs.

    python benchmarks/meteor_equality.py --coco CAPTIONS_VAL2017_JSON --flickr8k FOLDER [--edited 6000] [--first N]

Each caption of an image is scored against the image's other captions. "edited": captions of COCO with words deleted,
inserted, repeated, moved, inflected and joined by punctuation, long ones joined of several, and such of few words with
many ties. Prints a Markdown table, then the captions that differ, and fails if there are any. Takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from captioner.config import TokenizerConfig
from captioner.metrics.meteor.jar import MeteorJar
from captioner.metrics.meteor.meteor import Meteor
from captioner.metrics.meteor.meteor_metric import evaluate
from captioner.text import build_tokenizer

Pairs = tuple[list[str], list[list[str]]]  # hypotheses, and the references of each
SUFFIXES = ["s", "es", "ed", "ing", "er", "est", "ly", "'s", "n't", "-like", "-", "--", "é", " U.S.", " 3:00", " 1,000"]
SUFFIXES += [".", ",", "!", "?", "...", "''", '"', " –"]
AT_ONCE = 1000  # captions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True)
    parser.add_argument("--flickr8k", type=Path, required=True)
    parser.add_argument("--edited", type=int, default=6000)
    parser.add_argument("--first", type=int, help="only so many captions of each set")
    options = parser.parse_args()
    coco = read_coco(options.coco)
    edited = edited_captions(coco, options.edited, random.Random(0))
    sets = {
        "COCO val2017": leave_one_out(tokenized(coco)),
        "Flickr8k train": leave_one_out(tokenized(read_flickr8k(options.flickr8k, "train"))),
        "Flickr8k dev": leave_one_out(tokenized(read_flickr8k(options.flickr8k, "dev"))),
        "edited, tokenized": tokenized_pairs(edited),
        "edited, as they are": edited,
    }
    lines = ["| set | captions | pairs | that differ | statistics | that differ | scores, at most | corpus |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|---:|")
    differences: list[str] = []
    meteor = Meteor()
    with MeteorJar() as jar:
        for name, (hypotheses, references) in sets.items():
            row, found = compare(meteor, jar, hypotheses[: options.first], references[: options.first])
            lines.append(f"| {name} | {row} |")
            differences += found
            sys.stderr.write(f"{lines[-1]}\n")
    sys.stdout.write("\n".join([*lines, "", *(differences or ["No caption differs."])]) + "\n")
    sys.exit(bool(differences))


def compare(
    meteor: Meteor, jar: MeteorJar, hypotheses: list[str], references: list[list[str]]
) -> tuple[str, list[str]]:
    """The row of the table, and the captions that differ."""
    ours = meteor.statistics(hypotheses, references)
    theirs = np.concatenate(
        [jar.statistics(hypotheses[i : i + AT_ONCE], references[i : i + AT_ONCE]) for i in range(0, len(ours), AT_ONCE)]
    )
    (our_scores, our_corpus), (their_scores, their_corpus) = evaluate(ours), jar.evaluate(theirs)
    differ = np.flatnonzero((ours != theirs).any(axis=1))
    columns = [
        f"{len(ours):,}",
        f"{sum(map(len, references)):,}",
        len(differ),
        f"{ours.size:,}",
        int((ours != theirs).sum()),
        f"{np.abs(our_scores - their_scores).max():.1e}",
        f"{abs(our_corpus - their_corpus):.1e}",
    ]
    found = [
        f"{hypotheses[i]!r} against {references[i]}: ours {ours[i].astype(int).tolist()}, "
        f"the jar's {theirs[i].astype(int).tolist()}"
        for i in differ
    ]
    return " | ".join(map(str, columns)), found


def read_coco(path: Path) -> list[list[str]]:
    """The captions of each image."""
    by_image: dict[int, list[str]] = defaultdict(list)
    for annotation in json.loads(path.read_text("utf-8"))["annotations"]:
        by_image[annotation["image_id"]].append(annotation["caption"])
    return list(by_image.values())


def read_flickr8k(folder: Path, split: str) -> list[list[str]]:
    """The captions of each image of a split."""
    names = set((folder / f"Flickr_8k.{split}Images.txt").read_text("utf-8").split())
    by_image: dict[str, list[str]] = defaultdict(list)
    for line in (folder / "Flickr8k.token.txt").read_text("utf-8").splitlines():
        key, caption = line.split("\t")
        name = key.split("#")[0]
        if name in names:
            by_image[name].append(caption)
    return list(by_image.values())


def tokenized(groups: Iterable[list[str]]) -> list[list[str]]:
    """PTB tokens joined by spaces."""
    tokenize = build_tokenizer(TokenizerConfig()).tokenize_all
    return [[" ".join(tokens) for tokens in tokenize(captions)] for captions in groups]


def tokenized_pairs(pairs: Pairs) -> Pairs:
    return tokenized([pairs[0]])[0], tokenized(pairs[1])


def leave_one_out(groups: list[list[str]]) -> Pairs:
    """Every caption against the others of its image."""
    pairs = [(group[i], group[:i] + group[i + 1 :]) for group in groups for i in range(len(group))]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def edited_captions(groups: list[list[str]], count: int, source: random.Random) -> Pairs:
    """Made of real captions, as the docstring of this file says."""
    words = [word for group in groups[:1000] for caption in group for word in caption.lower().split()]
    hypotheses, references = [], []
    for _ in range(count):
        group, kind = source.choice(groups), source.random()
        if kind < 0.7:
            hypotheses.append(edited(source.choice(group), words, source))
            references.append([edited(one, words, source) for one in source.sample(group, source.randint(1, 3))])
        elif kind < 0.85:
            long = [" ".join(edited(one, words, source) for one in source.sample(group, 3)) for _ in range(2)]
            hypotheses.append(long[0])
            references.append(long[1:])
        else:
            few = [*source.sample(words, source.randint(1, 4)), "a", "the"]
            made = [" ".join(source.choices(few, k=source.randint(0, 16))) for _ in range(3)]
            hypotheses.append(made[0])
            references.append(made[1:])
    return hypotheses, references


def edited(caption: str, vocabulary: list[str], source: random.Random) -> str:
    """The caption with up to six changes."""
    words = caption.split()
    for _ in range(source.randint(0, 6)):
        if not words:
            break
        place, other = source.randrange(len(words)), source.randrange(len(words))
        kind = source.randrange(8)
        if kind == 0:
            del words[place]
        elif kind == 1:
            words.insert(place, source.choice(vocabulary))
        elif kind == 2:
            words[place], words[other] = words[other], words[place]
        elif kind == 3:
            words[place] += source.choice(SUFFIXES)
        elif kind == 4:
            words[place] = words[place].rstrip("s")
        elif kind == 5:
            words.insert(other, words[place])
        elif kind == 6:
            words[min(place, other) : max(place, other)] = words[min(place, other) : max(place, other)][::-1]
        else:
            words[place] = source.choice([words[place].upper(), f"{words[place]}-{source.choice(vocabulary)}"])
    return " ".join(words)


if __name__ == "__main__":
    main()
