"""Images captioned per second, from given features: `python benchmarks/decoding.py [--threads 2]`.

V = 9,490 words, E = H = A = 512, features 14×14×2048, 12 words per caption (a random decoder never generates <END>, so
every search does all its steps). Greedy search and beams of 3 and 5, in batches of 1, 10 and 50 images. "attention 512"
maps the regions to 512 dimensions first, as the design of att2in2 does. The baselines are the designs in `peers.py`:
att2in2, an LSTM without log-probabilities, and attention image by image with all its work inside the loop.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from measure import CLOCKS, median_seconds, report
from peers import AttentionStepByStep, FusedLSTM, MaxoutAttention

from captioner.config import AttentionConfig, DecodeConfig, RecurrentConfig
from captioner.decode import search
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS

VOCABULARY, DIM, REGIONS, FEATURES, WORDS = 9490, 512, 196, 2048, 12


def main() -> None:
    """Measure all cases in one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, nargs="+", default=[1, 10, 50], help="at a time")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="what is measured")
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose names begin so")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embedding_dim": DIM, "hidden_dim": DIM, "tie_embeddings": False}
    decoders = {
        "attention": build_decoder(AttentionConfig(**sizes), VOCABULARY, FEATURES).eval(),
        "attention 512": build_decoder(AttentionConfig(grid_dim=DIM, **sizes), VOCABULARY, FEATURES).eval(),
        "lstm": build_decoder(RecurrentConfig(**sizes), VOCABULARY, FEATURES).eval(),
    }
    cases: dict[str, Callable[[], Any]] = {}
    images: dict[str, int] = {}
    grids = {batch: torch.rand(batch, REGIONS, FEATURES) for batch in arguments.images}
    for model, decoder in decoders.items():
        for batch, grid in grids.items():
            features = ImageFeatures(grid.mean(1), None if model == "lstm" else grid)
            for width in (1, 3, 5):
                settings = DecodeConfig(
                    name="beam" if width > 1 else "greedy", beam_width=width, max_length=WORDS, min_length=WORDS
                )
                name = f"{model} {'greedy' if width == 1 else f'beam {width}'}, {batch} at a time"
                cases[name] = lambda d=decoder, f=features, s=settings: search(d, f, s, SPECIAL_TOKENS)
                images[name] = batch
    maxout = MaxoutAttention(VOCABULARY, DIM, DIM, DIM, FEATURES).eval()
    fused = FusedLSTM(VOCABULARY, DIM, DIM, FEATURES).eval()
    for batch, grid in grids.items():
        cases[f"peer: att2in2 greedy, {batch} at a time"] = lambda g=grid: maxout.greedy(g, WORDS)
        cases[f"peer: lstm greedy, {batch} at a time"] = lambda g=grid: fused.greedy(g[:, 0], WORDS)
        for width in (3, 5):
            name = f"peer: att2in2 beam {width}, {batch} at a time"
            cases[name] = lambda g=grid, w=width: maxout.beam(g, w, WORDS)
        images |= {name: batch for name in cases if name.startswith("peer") and name.endswith(f", {batch} at a time")}
    peer = AttentionStepByStep(VOCABULARY, DIM, DIM, DIM, FEATURES).eval()
    one = torch.rand(1, REGIONS, FEATURES)
    for width in (1, 3, 5):
        name = f"peer: attention {'greedy' if width == 1 else f'beam {width}'}, image by image"
        cases[name] = lambda w=width: peer.beam(one, w, WORDS)
        images[name] = 1
    cases = {name: case for name, case in cases.items() if name.startswith(tuple(arguments.only))}
    seconds = median_seconds(cases, arguments.rounds, clock=arguments.clock)
    report("decoding", {"images_per_second": {name: round(images[name] / s, 1) for name, s in seconds.items()}})


if __name__ == "__main__":
    main()
