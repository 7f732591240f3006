"""Speed and memory of the metrics, with pycocoevalcap beside them in one run: `python benchmarks/metrics.py`.

Lines for people go to stderr, one line of JSON to stdout. The captions are generated from a seed, with
about as many words, different words and matches as COCO's. Times are medians of several runs: of
processor time, so that what else the machine does matters little (all of it is one thread, nothing
calls BLAS), but for tokenizing, where Java is another process. Needs pycocoevalcap, takes a minute or two.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import platform
import random
import shutil
import statistics
import sys
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from captioner.config import TokenizerConfig
from captioner.data.synthetic.scenes.generate_scenes import generate_scene
from captioner.metrics import CiderReward, DocumentFrequencies, score_tokens
from captioner.text import build_tokenizer

Tokens = list[str]
Ids = list[int]
NAMES = ("Bleu", "ROUGE_L", "CIDEr")
REFERENCES = 5  # an image
BATCH = 50  # hypotheses that are rewarded at once, each of another image
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 40_000)


def generate_captions(images: int, seed: int = 0) -> tuple[list[Tokens], list[list[Tokens]]]:
    """Hypotheses and five references each: 7 to 14 words, some common to all images, some to the image's captions."""
    generator = random.Random(seed)
    common = [f"common{rank}" for rank in range(60)]
    subjects = [f"word{rank}" for rank in range(10_000)]
    weight_of_common = [1 / (rank + 1) for rank in range(len(common))]
    cumulative = np.cumsum([1 / (rank + 5) for rank in range(len(subjects))]).tolist()

    def caption(topic: Sequence[Tokens]) -> Tokens:
        words: Tokens = []
        for _ in range(generator.randint(3, 6)):
            words += (
                generator.choice(topic)
                if generator.random() < 0.75
                else generator.choices(subjects, cum_weights=cumulative)
            )
            if generator.random() < 0.6:
                words += generator.choices(common, weight_of_common)
        return words

    captions = []
    for _ in range(images):
        words = generator.choices(subjects, cum_weights=cumulative, k=12)
        topic = [words[i : i + generator.randint(1, 3)] for i in range(0, 12, 2)]
        captions.append([caption(topic) for _ in range(REFERENCES + 1)])
    return [of_image[0] for of_image in captions], [of_image[1:] for of_image in captions]


def median_seconds(runs: int, function: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Of `runs` calls, after one that does not count."""
    function()
    times = []
    for _ in range(runs):
        start = clock()
        function()
        times.append(clock() - start)
    return statistics.median(times)


def peak_megabytes(function: Callable[[], object]) -> float:
    """The most memory that a call holds at one time beyond what there was before, as Python's allocator sees it."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def compare_whole_set(images: int, runs: int) -> dict[str, float]:
    """BLEU, ROUGE-L and CIDEr of so many images, tokens given: ours, pycocoevalcap's, and that they are equal."""
    hypotheses, references = generate_captions(images)
    results = {index: [" ".join(words)] for index, words in enumerate(hypotheses)}
    truths = {index: [" ".join(words) for words in captions] for index, captions in enumerate(references)}
    figures: dict[str, float] = {"images": images, "references_per_image": REFERENCES}
    ours = score_tokens(hypotheses, references, names=NAMES).corpus
    for name, scorer in (("Bleu", Bleu(4)), ("ROUGE_L", Rouge()), ("CIDEr", Cider())):
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.process_time()
            corpus, _ = scorer.compute_score(truths, results)
            figures[f"pycocoevalcap_{name}_s"] = time.process_time() - start
        expected = corpus if isinstance(corpus, list) else [corpus]
        found = [value for figure, value in ours.items() if figure.startswith(name)]
        if not np.allclose(found, expected, rtol=0, atol=1e-9):
            raise SystemExit(f"{name} is {found}, pycocoevalcap says {expected}: nothing to compare.")
        figures[f"ours_{name}_alone_s"] = median_seconds(
            runs, lambda name=name: score_tokens(hypotheses, references, names=[name])
        )
    figures["pycocoevalcap_s"] = sum(value for key, value in figures.items() if key.startswith("pycocoevalcap_"))
    figures["ours_s"] = median_seconds(runs, lambda: score_tokens(hypotheses, references, names=NAMES))
    figures["ratio"] = figures["pycocoevalcap_s"] / figures["ours_s"]
    return figures


def measure_growth(sizes: Sequence[int], runs: int) -> dict[str, Any]:
    """Time and memory of so many images, and the slope of log time over log images (1 is linear)."""
    hypotheses, references = generate_captions(max(sizes))
    seconds, megabytes = [], []
    for images in sizes:

        def run(images: int = images) -> object:
            return score_tokens(hypotheses[:images], references[:images], names=NAMES)

        seconds.append(median_seconds(runs, run))
        megabytes.append(peak_megabytes(run))
    slope = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return {"images": list(sizes), "ours_s": seconds, "peak_MB": megabytes, "slope": slope}


class DictionaryCiderD:
    """CIDEr-D afresh for every batch, with dictionaries of word tuples and given document frequencies.

    The design of the scorers that self-critical training usually calls (ruotianluo's `ciderD` among
    them): captions are strings of ids, and references are counted and weighted anew each time.
    """

    def __init__(self, document_frequency: dict[tuple[str, ...], int], images: int) -> None:
        self.document_frequency = defaultdict(float, document_frequency)
        self.log_images = math.log(images)

    @staticmethod
    def count(caption: str) -> Counter[tuple[str, ...]]:
        words = caption.split()
        return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))

    def vector(self, caption: str) -> tuple[list[dict[tuple[str, ...], float]], list[float], int]:
        vectors: list[dict[tuple[str, ...], float]] = [defaultdict(float) for _ in range(4)]
        norms, length = [0.0] * 4, 0
        for gram, times in self.count(caption).items():
            n = len(gram) - 1
            vectors[n][gram] = times * (self.log_images - np.log(max(1.0, self.document_frequency[gram])))
            norms[n] += vectors[n][gram] ** 2
            length += times if n == 1 else 0
        return vectors, [np.sqrt(norm) for norm in norms], length

    def __call__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        rewards = []
        for hypothesis, captions in zip(hypotheses, references, strict=True):
            ours, our_norms, our_length = self.vector(hypothesis)
            total = np.zeros(4)
            for reference in captions:
                theirs, their_norms, their_length = self.vector(reference)
                penalty = np.e ** (-((our_length - their_length) ** 2) / 72)
                for n in range(4):
                    product = sum(min(weight, theirs[n][gram]) * theirs[n][gram] for gram, weight in ours[n].items())
                    if our_norms[n] != 0 and their_norms[n] != 0:
                        product /= our_norms[n] * their_norms[n]
                    total[n] += product * penalty
            rewards.append(float(np.mean(total)) / len(captions) * 10)
        return rewards


def compare_reward(runs: int) -> dict[str, float]:
    """50 hypotheses of 50 images with 5 references each; document frequencies of 5,000 images."""
    words, words_of_references = generate_captions(5_000)
    vocabulary: dict[str, int] = {}

    def ids(tokens: Tokens) -> Ids:
        return [vocabulary.setdefault(word, len(vocabulary)) for word in tokens]

    hypotheses = [ids(tokens) for tokens in words]
    references = {index: [ids(tokens) for tokens in captions] for index, captions in enumerate(words_of_references)}
    frequencies = DocumentFrequencies.from_references(references.values())

    def text(tokens: Ids) -> str:
        return " ".join(map(str, tokens))

    counted: Counter[tuple[str, ...]] = Counter()
    for captions in references.values():
        counted.update(set().union(*(DictionaryCiderD.count(text(caption)) for caption in captions)))
    afresh = DictionaryCiderD(counted, len(references))

    times: dict[str, list[float]] = {"afresh": [], "cold": [], "warm": []}
    reward = CiderReward(frequencies, references)
    reward([0], [[0]])  # what NumPy sets up at its first call
    for run in range(runs):
        image_ids = list(range(BATCH * run + 1, BATCH * run + 1 + BATCH))
        batch = [hypotheses[index] for index in image_ids]
        texts, texts_of_references = (
            [text(i) for i in batch],
            [[text(i) for i in references[index]] for index in image_ids],
        )
        values = {}
        for name, function in (
            ("afresh", lambda texts=texts, others=texts_of_references: afresh(texts, others)),
            ("cold", lambda image_ids=image_ids, batch=batch: reward(image_ids, batch)),
            ("warm", lambda image_ids=image_ids, batch=batch: reward(image_ids, batch)),
        ):
            start = time.process_time()
            values[name] = function()
            times[name].append(time.process_time() - start)
        if not np.allclose(values["afresh"], values["warm"], rtol=0, atol=1e-9):
            raise SystemExit("The rewards differ: nothing to compare.")
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "hypotheses": BATCH,
        "references_per_image": REFERENCES,
        **{f"{name}_ms": 1000 * seconds for name, seconds in medians.items()},
        "warm_ratio": medians["afresh"] / medians["warm"],
        "cold_ratio": medians["afresh"] / medians["cold"],
    }


def compare_tokenizers(runs: int, captions: int) -> dict[str, float]:
    """Sentences of the generated scenes: ours, and CoreNLP's with its start where there is Java."""
    scenes = (generate_scene(0, "train", index)[2] for index in range(captions // 5))
    sentences = [sentence for of_scene in scenes for sentence in of_scene][:captions]
    python, figures = build_tokenizer(TokenizerConfig()), {"captions": float(len(sentences))}
    figures["ours_s"] = median_seconds(runs, lambda: python.tokenize_all(sentences), time.perf_counter)
    if shutil.which("java"):
        java = build_tokenizer(TokenizerConfig(backend="java"))
        figures["java_s"] = median_seconds(runs, lambda: java.tokenize_all(sentences), time.perf_counter)
        figures["ratio"] = figures["java_s"] / figures["ours_s"]
    return figures


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5_000, help="images of the comparison with pycocoevalcap")
    parser.add_argument("--runs", type=int, default=7, help="runs that a median is taken of")
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="images at which the growth of time ends")
    arguments = parser.parse_args()

    whole = compare_whole_set(arguments.images, arguments.runs)
    say(f"BLEU + ROUGE-L + CIDEr of {whole['images']} images × {REFERENCES} references, tokens given, one thread:")
    say(f"  pycocoevalcap {whole['pycocoevalcap_s']:.2f} s, ours {whole['ours_s']:.3f} s: {whole['ratio']:.1f} times")
    reward = compare_reward(3 * arguments.runs)
    say(f"CIDEr-D reward of {BATCH} hypotheses × {REFERENCES} references:")
    say(
        f"  afresh {reward['afresh_ms']:.1f} ms, ours cold {reward['cold_ms']:.2f} ms, warm {reward['warm_ms']:.2f} ms:"
    )
    say(f"  {reward['cold_ratio']:.1f} and {reward['warm_ratio']:.1f} times as fast")
    growth = measure_growth([size for size in SIZES if size <= arguments.largest], max(1, arguments.runs // 2))
    for images, seconds, megabytes in zip(growth["images"], growth["ours_s"], growth["peak_MB"], strict=True):
        say(f"  {images:6d} images: {seconds:.3f} s, {1e6 * seconds / images:.0f} µs an image, peak {megabytes:.0f} MB")
    say(f"  time grows as images^{growth['slope']:.2f}")
    tokenizers = compare_tokenizers(max(1, arguments.runs // 2), captions=arguments.largest)
    java = f", CoreNLP with its start {tokenizers['java_s']:.2f} s" if "java_s" in tokenizers else ""
    say(f"Tokenizing {tokenizers['captions']:.0f} captions: ours {tokenizers['ours_s']:.2f} s{java}")
    machine = {"python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine()}
    print(json.dumps({"whole_set": whole, "reward": reward, "growth": growth, "tokenizer": tokenizers, **machine}))


if __name__ == "__main__":
    main()
