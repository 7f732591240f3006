"""`updown` and `transformer` beside the public design, and an ensemble of three beside one model.

    python benchmarks/later_models.py [--only updown transformer ensemble] [--rounds 5]

From given features of 36 regions × 2048, V = 9,490, H = A = 512, three layers of 8 heads for the transformer. Captions
have 12 words, greedily and with a beam of 5, 50 images at a time (a random decoder never generates <END>). A training
step has 10 images with 5 captions of 8 to 16 words. The designs are those of `later_peers.py`. Processor seconds, one
thread, the cases in turns; the ratios are of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from later_peers import TransformerPeer, UpDownPeer
from measure import report
from torch import nn
from torch.nn import functional as F
from training_step import captions_of

from captioner.config import DecodeConfig
from captioner.config.attention_models import TransformerConfig, UpDownConfig
from captioner.config.model import ModelConfig
from captioner.decode import search
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.ensemble import EnsembleDecoder, Member
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS
from captioner.training.cross_entropy import memory_efficient_cross_entropy

VOCABULARY, DIM, REGIONS, FEATURES, WORDS, IMAGES = 9490, 512, 36, 2048, 12, 50
TRAINED, EACH = 10, 5  # images, and captions of each, of a training step

Case = Callable[[], Any]
CONFIGS: dict[str, ModelConfig] = {
    "updown": UpDownConfig(embedding_dim=DIM, hidden_dim=DIM, grid_dim=DIM, tie_embeddings=False),
    "transformer": TransformerConfig(embedding_dim=DIM, hidden_dim=DIM, tie_embeddings=False),
}


def peer_of(model: str) -> UpDownPeer | TransformerPeer:
    """The public design of a model, with the same sizes."""
    if model == "updown":
        return UpDownPeer(VOCABULARY, DIM, DIM, FEATURES)
    return TransformerPeer(VOCABULARY, DIM, FEATURES, 3, 8, 2048)


def thriftier_peer(model: str) -> dict[str, nn.Module]:
    """A design with less work in training than the public one, by what it does otherwise."""
    if model == "updown":
        return {}
    return {"images encoded once": TransformerPeer(VOCABULARY, DIM, FEATURES, 3, 8, 2048, encodes_images_once=True)}


def searches(decoder: Decoder[Any], features: ImageFeatures) -> dict[str, Case]:
    """Greedy search and a beam of 5."""
    both = {"greedy": DecodeConfig(name="greedy", max_length=WORDS, min_length=WORDS)}
    both["beam 5"] = DecodeConfig(beam_width=5, max_length=WORDS, min_length=WORDS)
    return {name: lambda s=settings: search(decoder, features, s, SPECIAL_TOKENS) for name, settings in both.items()}


def our_step(decoder: nn.Module, grid: torch.Tensor) -> Case:
    """One optimizer step of a decoder of this package."""
    optimizer = torch.optim.Adam(decoder.parameters(), fused=True)
    packed = pack_captions(captions_of(TRAINED, EACH))
    features = ImageFeatures(grid.mean(1), grid)

    def step() -> None:
        output = decoder(features, packed)
        optimizer.zero_grad()
        (memory_efficient_cross_entropy(output.logits, packed.targets, 0.0) / len(packed.targets)).backward()
        optimizer.step()

    return step


def peer_step(model: nn.Module, grid: torch.Tensor) -> Case:
    """One optimizer step of a public design."""
    flat = [torch.tensor(words) for of_image in captions_of(TRAINED, EACH) for words in of_image]
    inputs = nn.utils.rnn.pad_sequence([F.pad(words, (1, 0), value=1) for words in flat], batch_first=True)
    targets = nn.utils.rnn.pad_sequence([F.pad(words, (0, 1), value=2) for words in flat], batch_first=True)
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        log_probs = model(grid, inputs).gather(2, targets.unsqueeze(2)).squeeze(2)
        (-(log_probs * (targets > 0)).sum() / (targets > 0).sum()).backward()
        optimizer.step()

    return step


def cases_of(model: str) -> dict[str, Case]:
    """A model and its public design: both searches and a training step."""
    grid = torch.rand(IMAGES, REGIONS, FEATURES)
    decoder, peer = build_decoder(CONFIGS[model], VOCABULARY, FEATURES), peer_of(model)
    searched = build_decoder(CONFIGS[model], VOCABULARY, FEATURES).eval(), peer_of(model).eval()
    found = searches(searched[0], ImageFeatures(grid.mean(1), grid))
    cases: dict[str, Case] = {f"{model} {name}": case for name, case in found.items()}
    cases[f"peer {model} greedy"] = lambda: searched[1].greedy(grid, WORDS)
    cases[f"peer {model} beam 5"] = lambda: searched[1].beam(grid, 5, WORDS)
    cases[f"{model} training step"] = our_step(decoder.train(), grid[:TRAINED])
    cases[f"peer {model} training step"] = peer_step(peer.train(), grid[:TRAINED])
    for name, module in thriftier_peer(model).items():
        cases[f"peer {model} training step, {name}"] = peer_step(module.train(), grid[:TRAINED])
    return cases


def ensemble_cases() -> dict[str, Case]:
    """One model and an ensemble of three of its kind, from the same features."""
    grid = torch.rand(IMAGES, REGIONS, FEATURES)
    features = ImageFeatures(grid.mean(1), grid)
    cases: dict[str, Case] = {}
    for model, config in CONFIGS.items():
        three = [build_decoder(config, VOCABULARY, FEATURES).eval() for _ in range(3)]
        together = EnsembleDecoder([Member(decoder) for decoder in three], "probabilities").eval()
        cases |= {f"one {model} {name}": case for name, case in searches(three[0], features).items()}
        cases |= {f"three {model} {name}": case for name, case in searches(together, features).items()}
    return cases


def measure(cases: dict[str, Case], rounds: int) -> dict[str, float]:
    """Median processor seconds of each case, in turns, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, case in cases.items():
            start = time.process_time()
            case()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def main() -> None:
    """Measure the cases that --only names, and report seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*CONFIGS, "ensemble"], default=[*CONFIGS, "ensemble"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", default=[""], help="only those with one of these words, such as training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results: dict[str, Any] = {}
    for name in arguments.only:
        every = ensemble_cases() if name == "ensemble" else cases_of(name)
        cases = {case: run for case, run in every.items() if any(word in case for word in arguments.cases)}
        seconds = measure(cases, arguments.rounds)
        results |= {case: round(value, 4) for case, value in seconds.items()}
        for case, value in seconds.items():
            for peer, others in seconds.items():
                if peer.partition(", ")[0] == f"peer {case}":
                    results[f"ratio {peer.removeprefix('peer ')}"] = round(others / value, 2)
            if case.startswith("three "):
                results[f"ratio {case}"] = round(value / seconds[case.replace("three ", "one ")], 2)
    report("later_models", results)


if __name__ == "__main__":
    main()
