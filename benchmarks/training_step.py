"""Captions per second of one optimizer step, from given features: `python benchmarks/training_step.py [--threads 2]`.

V = 9,490 words, E = H = A = 512, features 14×14×2048 (attention) or 2048 (no attention), captions of 8 to 16 words;
32 images with one caption each, or 10 images with 5. Also reports the share of the ceiling: the necessary multiply-adds
per second over the rate of a float32 `torch.mm` with the shape of the output layer in the same run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import CLOCKS, median_seconds, product_rate, report
from peers import AttentionStepByStep, FusedLSTM, MaxoutAttention
from torch import nn
from torch.nn import functional as F

from captioner.config import AttentionConfig, ModelConfig, RecurrentConfig
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures
from captioner.training.cross_entropy import memory_efficient_cross_entropy
from captioner.training.precision import float32_matmul_precision

VOCABULARY, DIM, REGIONS, FEATURES = 9490, 512, 196, 2048


def captions_of(images: int, each: int) -> list[list[list[int]]]:
    """Random captions of 8 to 16 words."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, 17, (images, each), generator=generator).tolist()
    return [
        [torch.randint(4, VOCABULARY, (length,), generator=generator).tolist() for length in of_image]
        for of_image in lengths
    ]


def our_step(config: ModelConfig, images: int, each: int) -> tuple[Callable[[], None], PackedCaptions]:
    """A function that runs one optimizer step of a decoder, and the captions it trains on."""
    decoder = build_decoder(config, VOCABULARY, FEATURES)
    grid = torch.rand(images, REGIONS, FEATURES) if config.name == "attention" else None
    vector = torch.rand(images, FEATURES)
    optimizer = torch.optim.Adam(decoder.parameters(), fused=True)  # as in captioner.training.optimizer
    packed = pack_captions(captions_of(images, each))

    def step() -> None:
        output = decoder(ImageFeatures(vector, grid), packed)
        optimizer.zero_grad()
        (memory_efficient_cross_entropy(output.logits, packed.targets, 0.0) / len(packed.targets)).backward()
        optimizer.step()

    return step, packed


def peer_step(model: nn.Module, features: torch.Tensor, attention: bool) -> Callable[[], None]:
    """A function that runs one optimizer step of a baseline, on 32 images with one caption each."""
    flat = sorted((of_image[0] for of_image in captions_of(32, 1)), key=len, reverse=True)
    lengths = [len(words) + 1 for words in flat]
    inputs = nn.utils.rnn.pad_sequence([torch.tensor([1, *words]) for words in flat], batch_first=True)
    targets = nn.utils.rnn.pad_sequence([torch.tensor([*words, 2]) for words in flat], batch_first=True)
    packed = nn.utils.rnn.pack_padded_sequence(targets, lengths, batch_first=True).data
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        if attention:
            logits = model(features, inputs, lengths)
            loss = F.cross_entropy(nn.utils.rnn.pack_padded_sequence(logits, lengths, batch_first=True).data, packed)
        else:
            logits = model(features, inputs[:, 1:], lengths)
            loss = F.cross_entropy(logits, packed)
        loss.backward()
        optimizer.step()

    return step


def padded_step(model: MaxoutAttention, images: int, each: int) -> Callable[[], None]:
    """A function that runs one optimizer step of a baseline that computes all rows at all steps."""
    flat = [torch.tensor(words) for of_image in captions_of(images, each) for words in of_image]
    inputs = nn.utils.rnn.pad_sequence([F.pad(words, (1, 0), value=1) for words in flat], batch_first=True)
    targets = nn.utils.rnn.pad_sequence([F.pad(words, (0, 1), value=2) for words in flat], batch_first=True)
    grid, optimizer = torch.rand(images, REGIONS, FEATURES), torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        log_probs = model(grid, inputs).gather(2, targets.unsqueeze(2)).squeeze(2)
        (-(log_probs * (targets > 0)).sum() / (targets > 0).sum()).backward()
        optimizer.step()

    return step


def useful_operations(config: ModelConfig, packed: PackedCaptions, images: int) -> float:
    """Necessary FLOPs (2 per multiply-add) of a step: the forward pass, and twice that where gradients are needed."""
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[config.cell] * DIM
    words = len(packed.targets)
    per_word = (DIM + DIM) * gates + DIM * VOCABULARY
    per_image, no_input_gradient = FEATURES * gates, 0
    if config.name == "attention":
        grid = config.grid_dim or FEATURES
        per_word += grid * gates + DIM * DIM + REGIONS * DIM + REGIONS * grid + (DIM + grid) * DIM
        per_image, no_input_gradient = 0, REGIONS * FEATURES * DIM + FEATURES * 2 * DIM
        if config.grid_dim:
            per_image, no_input_gradient = REGIONS * DIM * DIM + DIM * 2 * DIM, REGIONS * FEATURES * DIM
    return 2.0 * (3 * words * per_word + images * (3 * per_image + 2 * no_input_gradient))


def main() -> None:
    """Measure all cases in one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--float32-matmul-precision",
        default="highest",
        choices=("highest", "high", "medium"),
        help="of the captioner steps, not of the baselines",
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="what is measured")
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose names begin so")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    sizes = {"embedding_dim": DIM, "hidden_dim": DIM, "tie_embeddings": False}
    ours = {
        "attention 32x1": (AttentionConfig(**sizes), 32, 1),
        "attention 10x5": (AttentionConfig(**sizes), 10, 5),
        "attention 512 32x1": (AttentionConfig(grid_dim=DIM, **sizes), 32, 1),
        "attention 512 10x5": (AttentionConfig(grid_dim=DIM, **sizes), 10, 5),
        "lstm 32x1": (RecurrentConfig(cell="lstm", **sizes), 32, 1),
        "lstm 10x5": (RecurrentConfig(cell="lstm", **sizes), 10, 5),
        "gru 10x5": (RecurrentConfig(cell="gru", **sizes), 10, 5),
        "rnn 10x5": (RecurrentConfig(cell="rnn", **sizes), 10, 5),
    }
    steps = {name: our_step(*case) for name, case in ours.items()}
    cpu = torch.device("cpu")
    cases = {
        name: float32_matmul_precision(arguments.float32_matmul_precision, cpu)(step)
        for name, (step, _) in steps.items()
    }
    cases["peer: fused lstm 32x1"] = peer_step(
        FusedLSTM(VOCABULARY, DIM, DIM, FEATURES), torch.rand(32, FEATURES), False
    )
    cases["peer: attention, all in the loop 32x1"] = peer_step(
        AttentionStepByStep(VOCABULARY, DIM, DIM, DIM, FEATURES), torch.rand(32, REGIONS, FEATURES), True
    )
    for images, each in ((32, 1), (10, 5)):
        maxout = MaxoutAttention(VOCABULARY, DIM, DIM, DIM, FEATURES)
        cases[f"peer: att2in2 {images}x{each}"] = padded_step(maxout, images, each)
    cases = {name: case for name, case in cases.items() if name.startswith(tuple(arguments.only))}
    seconds = median_seconds(cases, arguments.rounds, clock=arguments.clock)
    ceiling = product_rate(400, DIM, VOCABULARY, clock=arguments.clock)
    captions = {name: images * each for name, (_, images, each) in ours.items()} | {"peer: att2in2 10x5": 50}
    results = {name: {"captions_per_second": round(captions.get(name, 32) / s, 1)} for name, s in seconds.items()}
    for name, (config, images, _) in ours.items():
        if name not in seconds:
            continue
        operations = useful_operations(config, steps[name][1], images)
        results[name]["share_of_ceiling"] = round(operations / (seconds[name] * ceiling), 3)
    report(
        "training_step",
        {"precision": arguments.float32_matmul_precision, "ceiling_gflops": round(ceiling / 1e9, 1), "cases": results},
    )


if __name__ == "__main__":
    main()
