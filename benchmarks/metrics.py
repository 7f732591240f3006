"""Speed and memory of the metrics, compared with pycocoevalcap in the same run: `python benchmarks/metrics.py`.

Prints readable lines to stderr and one line of JSON to stdout. The captions are generated from a seed, with about as
many words, distinct words and matches as COCO's. Times are medians of several runs, in processor time, which other load
affects little (everything runs in one thread without BLAS); except for tokenizing, where Java is another process.
Needs pycocoevalcap; takes a minute or two.
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
REFERENCES = 5  # per image
BATCH = 50  # hypotheses per call of the reward, one per image
SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 40_000)


def generate_captions(images: int, seed: int = 0) -> tuple[list[Tokens], list[list[Tokens]]]:
    """Hypotheses with five references each: 7 to 14 words, some frequent, some shared by the image's captions."""
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
    """Median seconds of `runs` calls, after one warm-up call."""
    function()
    times = []
    for _ in range(runs):
        start = clock()
        function()
        times.append(clock() - start)
    return statistics.median(times)


def peak_megabytes(function: Callable[[], object]) -> float:
    """Peak megabytes that a call allocates in addition, by Python's allocator."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def compare_whole_set(images: int, runs: int) -> dict[str, float]:
    """Seconds for BLEU, ROUGE-L and CIDEr of tokenized captions, ours and pycocoevalcap's; checks equal scores."""
    hypotheses, references = generate_captions(images)
    candidates = {index: [" ".join(words)] for index, words in enumerate(hypotheses)}
    truths = {index: [" ".join(words) for words in captions] for index, captions in enumerate(references)}
    results: dict[str, float] = {"images": images, "references_per_image": REFERENCES}
    ours = score_tokens(hypotheses, references, names=NAMES).corpus
    for name, scorer in (("Bleu", Bleu(4)), ("ROUGE_L", Rouge()), ("CIDEr", Cider())):
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.process_time()
            corpus, _ = scorer.compute_score(truths, candidates)
            results[f"pycocoevalcap_{name}_s"] = time.process_time() - start
        expected = corpus if isinstance(corpus, list) else [corpus]
        found = [value for metric, value in ours.items() if metric.startswith(name)]
        if not np.allclose(found, expected, rtol=0, atol=1e-9):
            raise SystemExit(f"{name} is {found}, pycocoevalcap's is {expected}: times cannot be compared.")
        results[f"ours_{name}_alone_s"] = median_seconds(
            runs, lambda name=name: score_tokens(hypotheses, references, names=[name])
        )
    results["pycocoevalcap_s"] = sum(value for key, value in results.items() if key.startswith("pycocoevalcap_"))
    results["ours_s"] = median_seconds(runs, lambda: score_tokens(hypotheses, references, names=NAMES))
    results["ratio"] = results["pycocoevalcap_s"] / results["ours_s"]
    return results


def measure_growth(sizes: Sequence[int], runs: int) -> dict[str, Any]:
    """Time and memory by number of images, and the slope of log time over log images (1 is linear)."""
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
    """CIDEr-D computed anew for every batch, with dictionaries of word tuples and given document frequencies.

    The design of the scorers that self-critical training usually calls (such as ruotianluo's `ciderD`): captions are
    strings of ids, and references are counted and weighted at each call.
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
    """Milliseconds to score 50 hypotheses of 50 images with 5 references; document frequencies of 5,000 images."""
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
    uncached = DictionaryCiderD(counted, len(references))

    times: dict[str, list[float]] = {"uncached": [], "cold": [], "warm": []}
    reward = CiderReward(frequencies, references)
    reward([0], [[0]])  # NumPy's initialization at its first call
    for run in range(runs):
        image_ids = list(range(BATCH * run + 1, BATCH * run + 1 + BATCH))
        batch = [hypotheses[index] for index in image_ids]
        texts, texts_of_references = (
            [text(i) for i in batch],
            [[text(i) for i in references[index]] for index in image_ids],
        )
        values = {}
        for name, function in (
            ("uncached", lambda texts=texts, others=texts_of_references: uncached(texts, others)),
            ("cold", lambda image_ids=image_ids, batch=batch: reward(image_ids, batch)),
            ("warm", lambda image_ids=image_ids, batch=batch: reward(image_ids, batch)),
        ):
            start = time.process_time()
            values[name] = function()
            times[name].append(time.process_time() - start)
        if not np.allclose(values["uncached"], values["warm"], rtol=0, atol=1e-9):
            raise SystemExit("The rewards differ: times cannot be compared.")
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "hypotheses": BATCH,
        "references_per_image": REFERENCES,
        **{f"{name}_ms": 1000 * seconds for name, seconds in medians.items()},
        "warm_ratio": medians["uncached"] / medians["warm"],
        "cold_ratio": medians["uncached"] / medians["cold"],
    }


def compare_tokenizers(runs: int, captions: int) -> dict[str, float]:
    """Seconds to tokenize captions of the synthetic scenes: ours, and CoreNLP's including its start, with Java."""
    scenes = (generate_scene(0, "train", index)[2] for index in range(captions // 5))
    texts = [caption for of_scene in scenes for caption in of_scene][:captions]
    python, results = build_tokenizer(TokenizerConfig()), {"captions": float(len(texts))}
    results["ours_s"] = median_seconds(runs, lambda: python.tokenize_all(texts), time.perf_counter)
    if shutil.which("java"):
        java = build_tokenizer(TokenizerConfig(backend="java"))
        results["java_s"] = median_seconds(runs, lambda: java.tokenize_all(texts), time.perf_counter)
        results["ratio"] = results["java_s"] / results["ours_s"]
    return results


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5_000, help="images of the comparison with pycocoevalcap")
    parser.add_argument("--runs", type=int, default=7, help="runs per median")
    parser.add_argument(
        "--largest", type=int, default=SIZES[-1], help="the largest number of images for the growth of time"
    )
    arguments = parser.parse_args()

    whole = compare_whole_set(arguments.images, arguments.runs)
    log(f"BLEU + ROUGE-L + CIDEr of {whole['images']} images × {REFERENCES} references, tokenized, one thread:")
    log(f"  pycocoevalcap {whole['pycocoevalcap_s']:.2f} s, ours {whole['ours_s']:.3f} s: {whole['ratio']:.1f} times")
    reward = compare_reward(3 * arguments.runs)
    log(f"CIDEr-D reward of {BATCH} hypotheses × {REFERENCES} references:")
    log(f"  uncached {reward['uncached_ms']:.1f} ms, ours cold {reward['cold_ms']:.2f} ms,")
    log(f"  ours warm {reward['warm_ms']:.2f} ms:")
    log(f"  {reward['cold_ratio']:.1f} and {reward['warm_ratio']:.1f} times as fast")
    growth = measure_growth([size for size in SIZES if size <= arguments.largest], max(1, arguments.runs // 2))
    for images, seconds, megabytes in zip(growth["images"], growth["ours_s"], growth["peak_MB"], strict=True):
        log(
            f"  {images:6d} images: {seconds:.3f} s, {1e6 * seconds / images:.0f} µs per image, peak {megabytes:.0f} MB"
        )
    log(f"  time grows as images^{growth['slope']:.2f}")
    tokenizers = compare_tokenizers(max(1, arguments.runs // 2), captions=arguments.largest)
    java = f", CoreNLP including its start {tokenizers['java_s']:.2f} s" if "java_s" in tokenizers else ""
    log(f"Tokenizing {tokenizers['captions']:.0f} captions: ours {tokenizers['ours_s']:.2f} s{java}")
    machine = {"python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine()}
    print(json.dumps({"whole_set": whole, "reward": reward, "growth": growth, "tokenizer": tokenizers, **machine}))


if __name__ == "__main__":
    main()
