"""Our gradient sums beside DistributedDataParallel: processor seconds a step in 2 and 4 processes, connected by gloo.

    python benchmarks/ddp.py [--processes 2 4] [--rounds 10] [--case "flickr8k attention 16x5"]

Each process has one thread and its part of one global batch, with features given. All kinds run in the same processes,
in turns, so that other load affects all alike; each starts from the same weights. DDP averages, so its loss is times
the number of processes. Counted is the processor time of the slowest process, of loss, gradients and their exchange,
without the optimizer; waiting costs nothing. The table also says whether the gradients are those of one process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from distributed import CASES, Case, batch_of
from torch import Tensor, nn
from torch.distributed import TCPStore
from torch.nn.parallel import DistributedDataParallel

from captioner.config import EncoderConfig
from captioner.distributed.all_reduce import summed_gradients
from captioner.distributed.ranks import all_gather, join_job, process_group, rank_info, share
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures
from captioner.training.losses import BatchTotals, captioning_losses

KINDS = {
    "ours": None,
    "DDP": {},
    "DDP, gradients as views": {"gradient_as_bucket_view": True},
    "DDP, static graph": {"static_graph": True, "gradient_as_bucket_view": True},
    "DDP, find unused": {"find_unused_parameters": True},
}


class Loss(nn.Module):
    """The loss as a module, because DistributedDataParallel wraps a `forward`."""

    def __init__(self, model: CaptioningModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: ImageFeatures, captions: PackedCaptions, totals: BatchTotals) -> Tensor:
        return captioning_losses(self.model, features, captions, label_smoothing=0.1, totals=totals)["loss"]


def build(case: Case) -> CaptioningModel:
    """A model with the same weights each time; the encoder is frozen."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="squeezenet1_1", weights=None, image_size=64), load_weights=False)
    encoder.freeze()
    model = CaptioningModel(encoder, build_decoder(case.model, case.vocabulary, case.channels))
    return model.eval()  # no dropout, so that gradients can be compared


def gradient(model: CaptioningModel) -> Tensor:
    """All gradients of the decoder, in one row."""
    return torch.cat(
        [parameter.grad.flatten() for parameter in model.decoder.parameters() if parameter.grad is not None]
    )


def steps_of(case: Case, images: list[int]) -> dict[str, tuple[CaptioningModel, Callable[[], None]]]:
    """Kind → its model, and a function that computes its gradients for these images of the batch."""
    grid, words = batch_of(case)
    local = grid[images].clone()
    totals = BatchTotals.of(words)

    def inputs(model: CaptioningModel) -> tuple[ImageFeatures, PackedCaptions, BatchTotals]:
        features = ImageFeatures(local.mean(1), local if model.needs_grid else None)
        return features, pack_captions([words[image] for image in images]), totals

    def step(kind: str) -> tuple[CaptioningModel, Callable[[], None]]:
        model = build(case)
        loss: nn.Module = Loss(model)
        options = KINDS[kind]
        if options is None:

            def ours() -> None:
                model.zero_grad(set_to_none=True)
                with summed_gradients(model.parameters(), overlap=True):
                    loss(*inputs(model)).backward()

            return model, ours
        wrapped = DistributedDataParallel(loss, **options)

        def ddp() -> None:
            model.zero_grad(set_to_none=True)
            (wrapped(*inputs(model)) * rank_info().world_size).backward()

        return model, ddp

    return {kind: step(kind) for kind in KINDS}


def work(name: str, rounds: int) -> None:
    """One process: prints the seconds of each kind, and how far its gradients are from those of one process."""
    torch.set_num_threads(1)
    join_job()
    case = CASES[name]
    with process_group(torch.device("cpu")):
        steps = steps_of(case, share(range(case.images)))
        whole = build(case)
        grid, words = batch_of(case)
        features = ImageFeatures(grid.mean(1), grid if whole.needs_grid else None)
        Loss(whole)(features, pack_captions(words), BatchTotals.of(words)).backward()
        expected = gradient(whole)
        seconds: dict[str, list[float]] = {kind: [] for kind in steps}
        errors = {}
        for number in range(rounds + 2):  # DDP orders its buckets anew after the first step
            for kind, (model, step) in steps.items():
                all_gather(None)
                start = time.process_time()
                step()
                if number > 1:
                    seconds[kind].append(time.process_time() - start)
                errors[kind] = float((gradient(model) - expected).norm() / expected.norm())
    sys.stdout.write(json.dumps({kind: [statistics.median(seconds[kind]), errors[kind]] for kind in steps}) + "\n")


def measure(name: str, size: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Kind → processor seconds a step of the slowest process, and the largest relative error of its gradient."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    processes = []
    for rank in range(size):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "OMP_NUM_THREADS": 1}
        environment = os.environ | {key: str(value) for key, value in (job | place).items()}
        command = [sys.executable, __file__, "--work", name, "--rounds", str(rounds)]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    answers = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    return {kind: (max(a[kind][0] for a in answers), max(a[kind][1] for a in answers)) for kind in answers[0]}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--case", choices=CASES, default="flickr8k attention 16x5")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, arguments.rounds)
        return
    print(
        f"{arguments.case}\n\n| processes | kind | ms a step | error of the gradient |\n|---|---|---|---|", flush=True
    )
    for size in arguments.processes:
        for kind, (seconds, error) in measure(arguments.case, size, arguments.rounds).items():
            print(f"| {size} | {kind} | {1000 * seconds:.0f} | {error:.0e} |", flush=True)


if __name__ == "__main__":
    main()
