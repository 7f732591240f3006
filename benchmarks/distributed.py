"""Captions per second of whole optimizer steps in one process and in two: `python benchmarks/distributed.py`.

One thread per process, given features, the same global batch: each of two processes has half of its images. Also
measured are two independent processes, each with half of the batch: the upper bound, without communication. The three
jobs are interleaved step by step, so that other load affects all alike. Ratios are those of medians: of wall-clock
time, and of the processor time of the slower process, which other load does not lengthen (it excludes waiting).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import torch
from measure import report
from torch.distributed import TCPStore

from captioner.config import AttentionConfig, EncoderConfig, ModelConfig, OptimConfig, RecurrentConfig
from captioner.distributed.all_reduce import summed_gradients
from captioner.distributed.ranks import all_gather, all_reduce, join_job, process_group, share
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.training.losses import BatchTotals, captioning_losses
from captioner.training.optimizer import build_optimizer, clip_gradient


@dataclass(frozen=True)
class Case:
    """A decoder, the shape of its input, and the global batch."""

    model: ModelConfig
    vocabulary: int
    regions: int
    channels: int
    images: int
    captions: int = 5


LARGE = {"embedding_dim": 512, "hidden_dim": 512, "tie_embeddings": False}
CASES = {
    # Flickr8k with train.py's default settings: EfficientNet-Lite0 at 7 × 7, 16 images; and larger batches
    **{
        f"flickr8k {config.name} {images}x5": Case(config, 2550, 49, 1280, images)
        for config in (AttentionConfig(), RecurrentConfig())
        for images in (16, 32, 64)
    },
    # The sizes of training_step.py
    "large attention 10x5": Case(AttentionConfig(**LARGE), 9490, 196, 2048, 10),
    "large attention 32x5": Case(AttentionConfig(**LARGE), 9490, 196, 2048, 32),
    "large recurrent 10x5": Case(RecurrentConfig(**LARGE), 9490, 1, 2048, 10),
    "large recurrent 64x5": Case(RecurrentConfig(**LARGE), 9490, 1, 2048, 64),
}
Words = list[list[list[int]]]


def batch_of(case: Case) -> tuple[torch.Tensor, Words]:
    """Random features of all images, and random captions of 8 to 16 words."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.rand(case.images, case.regions, case.channels, generator=generator)
    lengths = torch.randint(8, 17, (case.images, case.captions), generator=generator).tolist()
    words = [
        [torch.randint(4, case.vocabulary, (length,), generator=generator).tolist() for length in of_image]
        for of_image in lengths
    ]
    return grid, words


def work(name: str, part: int | None) -> None:
    """Run one process: a step for each line on its input, answered with its wall-clock and processor seconds.

    part: the half of the batch of an independent process; None: train on this rank's share.
    """
    torch.set_num_threads(1)
    if part is None:
        join_job()
    case = CASES[name]
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="squeezenet1_1", weights=None, image_size=64), load_weights=False)
    model = CaptioningModel(encoder, build_decoder(case.model, case.vocabulary, case.channels))
    config = OptimConfig()
    optimizer = build_optimizer(model, config)
    grid, words = batch_of(case)
    images = share(range(case.images)) if part is None else range(part, case.images, 2)
    local_grid = grid[images].clone()
    features = ImageFeatures(local_grid.mean(1), local_grid if model.needs_grid else None)
    captions, totals = pack_captions([words[image] for image in images]), BatchTotals.of(words)
    size = 4 * sum(parameter.numel() for parameter in model.decoder.parameters())
    with process_group(torch.device("cpu")):
        sys.stdout.write(json.dumps(size) + "\n")
        for _ in iter(sys.stdin.readline, "\n"):
            started, processor = time.perf_counter(), time.process_time()
            optimizer.zero_grad(set_to_none=True)
            with summed_gradients(model.parameters(), overlap=True):
                losses = captioning_losses(model, features, captions, label_smoothing=0.1, totals=totals)
                losses["loss"].backward()
            all_reduce({name: float(value.detach()) for name, value in losses.items()})
            clip_gradient(optimizer, config.clip_norm)
            optimizer.step()
            all_gather(0)  # training checks here whether a rank was asked to stop
            sys.stdout.write(json.dumps([time.perf_counter() - started, time.process_time() - processor]) + "\n")
            sys.stdout.flush()


class Job:
    """Processes that train together, or independently, one step at a time."""

    def __init__(self, name: str, size: int, independent: bool = False) -> None:
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": self.store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
        self.processes = []
        for rank in range(size):
            ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
            environment = os.environ | {k: str(v) for k, v in (job | ranks).items()} | {"OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "--work", name, *(["--part", str(rank)] if independent else [])]
            pipe = subprocess.PIPE
            self.processes.append(subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True))
        self.bytes = max(self._answers())

    def step(self) -> tuple[float, float]:
        """One step: wall-clock and processor seconds, each of the slower process."""
        self._tell("step\n")
        clock, processor = zip(*self._answers(), strict=True)
        return max(clock), max(processor)

    def end(self) -> None:
        """End all processes."""
        self._tell("\n")
        for process in self.processes:
            process.communicate()

    def _tell(self, line: str) -> None:
        for process in self.processes:
            process.stdin.write(line)
            process.stdin.flush()

    def _answers(self) -> list:
        return [json.loads(process.stdout.readline()) for process in self.processes]


def compare(name: str, rounds: int) -> dict[str, float]:
    """Medians over `rounds` interleaved steps of each job."""
    case = CASES[name]
    jobs = {"one": Job(name, 1), "two": Job(name, 2), "independent": Job(name, 2, independent=True)}
    for job in jobs.values():
        job.step()
    seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in jobs}
    for _ in range(rounds):
        for kind, job in jobs.items():
            seconds[kind].append(job.step())
    for job in jobs.values():
        job.end()
    clock, processor = ({kind: statistics.median(pair[i] for pair in seconds[kind]) for kind in jobs} for i in (0, 1))
    captions = case.images * case.captions
    return {
        **{f"captions_per_second_{kind}": round(captions / clock[kind], 1) for kind in jobs},
        "two_to_one": round(clock["one"] / clock["two"], 2),
        "independent_to_one": round(clock["one"] / clock["independent"], 2),
        "two_to_one_processor": round(processor["one"] / processor["two"], 2),
        "gradient_megabytes": round(jobs["one"].bytes / 1e6, 1),
    }


def main() -> None:
    """Measure all cases; with --work, run one process of a case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.part)
        return
    load = os.getloadavg()[0]
    cases = {name: compare(name, arguments.rounds) for name in arguments.cases}
    report("distributed", {"cores": os.cpu_count(), "load_before": round(load, 1), "cases": cases})


if __name__ == "__main__":
    main()
