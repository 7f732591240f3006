"""Speedup of a frozen encoder over torchvision's network, by optimization.

    python benchmarks/encoder.py efficientnet_lite0 resnet18 --threads 1

Weights are random: time does not depend on them. The variants are interleaved; reported is the best of several runs, in
processor time, which other load affects least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from captioner.config import EncoderConfig
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.fuse_batch_norm import fuse_batch_norm


def variants(name: str, batch_size: int) -> dict[str, Callable[[], Tensor]]:
    """Forward passes: torchvision's network, each optimization added to the one before, and the encoder with all."""
    encoder = build_encoder(EncoderConfig(name, weights=None)).eval()
    size = encoder.transform.size
    images = torch.randn(batch_size, 3, size, size)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    fused: nn.Module = fuse_batch_norm(encoder.trunk)
    return {
        "torchvision": lambda: encoder.trunk(images),
        "channels last": lambda: encoder.trunk(channels_last),
        "+ fused BatchNorm": lambda: fused(channels_last),
        "encoder": lambda: encoder(images).grid,
    }


def best_seconds(functions: dict[str, Callable[[], Tensor]], runs: int) -> dict[str, float]:
    """The shortest processor time of each function over interleaved runs."""
    best = dict.fromkeys(functions, float("inf"))
    with torch.no_grad():
        for _ in range(runs):
            for label, function in functions.items():
                start = time.process_time()
                function()
                best[label] = min(best[label], time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["efficientnet_lite0", "resnet18"])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.names:
        seconds = best_seconds(variants(name, arguments.batch_size), arguments.runs)
        shown = (f"{label} {seconds['torchvision'] / value:.2f}×" for label, value in seconds.items())
        speed = arguments.batch_size / seconds["torchvision"]
        print(f"{name}: {speed:.1f} images/s of processor time; {', '.join(shown)}")


if __name__ == "__main__":
    main()
