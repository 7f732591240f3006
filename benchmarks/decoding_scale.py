"""Time and memory of decoding by number of images: `python benchmarks/decoding_scale.py [--threads 2]`.

100, 1,000 and 10,000 images by greedy search and beam 5, in batches of 50. Features are generated on demand (7×7×1280,
as from EfficientNet-Lite0); V = 9,490, E = H = A = 512, 12 words. Reports milliseconds per image and the peak memory of
the process so far: the captions are kept, features and attention are not.
"""

from __future__ import annotations

import argparse
import time

import torch
from measure import peak_memory, report

from captioner.config import AttentionConfig, DecodeConfig
from captioner.decode import search
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS

VOCABULARY, DIM, REGIONS, FEATURES, WORDS, BATCH = 9490, 512, 49, 1280, 12, 50


def decode(decoder: torch.nn.Module, settings: DecodeConfig, images: int) -> list[tuple[int, ...]]:
    """Token ids of the captions of random images, decoded in batches; attention is discarded, as in an evaluation."""
    captions: list[tuple[int, ...]] = []
    for first in range(0, images, BATCH):
        grid = torch.rand(min(BATCH, images - first), REGIONS, FEATURES)
        found = search(decoder, ImageFeatures(grid.mean(1), grid), settings, SPECIAL_TOKENS)
        captions.extend(tuple(hypotheses[0].tokens) for hypotheses in found)
    return captions


def main() -> None:
    """Measure small counts first, because the peak memory can only grow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    decoder = build_decoder(AttentionConfig(embedding_dim=DIM, tie_embeddings=False), VOCABULARY, FEATURES).eval()
    kinds = {
        "greedy": DecodeConfig(name="greedy", max_length=WORDS, min_length=WORDS),
        "beam 5": DecodeConfig(name="beam", beam_width=5, max_length=WORDS, min_length=WORDS),
    }
    for settings in kinds.values():
        decode(decoder, settings, BATCH)
    results: dict[str, dict[str, float]] = {}
    for count in given.counts:
        for name, settings in kinds.items():
            start = time.perf_counter()
            decode(decoder, settings, count)
            milliseconds = 1000 * (time.perf_counter() - start) / count
            peak = peak_memory() / 2**20
            results[f"{name}, {count} images"] = {
                "ms_per_image": round(milliseconds, 2),
                "peak_megabytes": round(peak),
            }
    report("decoding_scale", {"cases": results})


if __name__ == "__main__":
    main()
