"""Time and memory of a fine-tuning step: channels last, folded frozen blocks, gradient checkpointing.

    python benchmarks/fine_tuning.py efficientnet_lite0:features.4 resnet50:layer3 --threads 1

A step is the forward and the backward pass of the encoder alone, trainable from the named block on, with random
weights. Time is processor time, the best of several interleaved runs. Memory is that of the tensors that the forward
pass keeps for the backward pass, without weights and without what a checkpointed block recomputes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from captioner.config import EncoderConfig
from captioner.nn.encoders.build_encoder import build_encoder


def variants(name: str, block: str, batch_size: int) -> dict[str, Callable[[], Tensor]]:
    """Forward passes: torchvision's network, with channels last, and the encoder without and with checkpointing."""
    config = EncoderConfig(name, weights=None, fine_tune_from=block)
    checkpointed = EncoderConfig(name, weights=None, fine_tune_from=block, gradient_checkpointing=True)
    encoder, checkpointing = build_encoder(config).train(), build_encoder(checkpointed).train()
    images = torch.randn(batch_size, 3, encoder.transform.size, encoder.transform.size)
    return {
        "torchvision": lambda: encoder.trunk(images),
        "channels last": lambda: encoder.trunk(images.contiguous(memory_format=torch.channels_last)),
        "encoder": lambda: encoder(images).grid,
        "encoder.gradient_checkpointing": lambda: checkpointing(images).grid,
    }


def kept_megabytes(forward: Callable[[], Tensor]) -> float:
    """Megabytes of activations that the forward pass keeps for the backward pass."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = forward()  # alive until the storages have been counted, so that none is used twice
    megabytes = sum(storages.values()) / 2**20
    del output
    return megabytes


def best_seconds(functions: dict[str, Callable[[], Tensor]], runs: int) -> dict[str, float]:
    """The shortest processor time of each function's forward and backward pass over interleaved runs."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(runs):
        for label, function in functions.items():
            start = time.process_time()
            function().square().sum().backward()
            best[label] = min(best[label], time.process_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", default=["efficientnet_lite0:features.4"], metavar="NAME:BLOCK")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for encoder in arguments.encoders:
        name, _, block = encoder.partition(":")
        functions = variants(name, block, arguments.batch_size)
        memory = {label: kept_megabytes(function) / arguments.batch_size for label, function in functions.items()}
        seconds = best_seconds(functions, arguments.runs)
        print(f"{name}, trainable from {block} on")
        for label in functions:
            speed = seconds["torchvision"] / seconds[label]
            print(f"    {label:<32}{speed:5.2f}× as fast{memory[label]:8.1f} MB per image")


if __name__ == "__main__":
    main()
