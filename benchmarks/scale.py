"""Estimated cost of training on COCO and on 12 million web pairs: `python benchmarks/scale.py COCO/val2017`.

First it measures, with one thread and in processor time (which other load does not lengthen), the speed of one core:
decoding JPEG files into tensors, encoding images, a training step, the optimizer's update. The argument is a folder of
JPEG files to decode. The tables are computed from these; docs/scale.md has them with their assumptions.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from distributed import Case, batch_of
from PIL import Image
from process_memory import memory_of
from torch.distributed import TCPStore

from captioner.config import (
    AttentionConfig,
    EncoderConfig,
    ModelConfig,
    OptimConfig,
    RecurrentConfig,
    TokenizerConfig,
)
from captioner.data.batches import encode_captions, tokenize_captions
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.images.decode import load_image
from captioner.data.images.transforms import image_to_tensor
from captioner.distributed.ranks import join_job, process_group
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import Vocabulary
from captioner.training.losses import BatchTotals, captioning_losses
from captioner.training.optimizer import build_optimizer, clip_gradient

ENCODER = "efficientnet_lite0"
GRID_BYTES, VECTOR_BYTES = 49 * 1280 * 2, 1280 * 2  # of one image's features in the cache
VOCABULARY = 9490
BATCH = 256  # images of a web batch, with one caption each; COCO has 64 with five
DECODERS: dict[str, ModelConfig] = {"attention": AttentionConfig(), "lstm": RecurrentConfig()}


def processor_seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Median processor time of `work`, after one warm-up call."""
    work()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


@dataclass(frozen=True)
class Constants:
    """Measured speed of one core. Seconds are processor seconds."""

    decode: float  # seconds per image: from JPEG to tensor
    jpeg_bytes: float  # per image of the folder
    small_jpeg_bytes: float  # with 256 pixels on the shorter side, quality 90
    small_decode: float
    encode: float  # seconds per image: forward pass of the frozen encoder
    learn: dict[str, dict[int, float]]  # seconds per caption by decoder and captions per image: loss and gradients
    update: dict[str, float]  # seconds per step: clipping and optimizer
    gradient_bytes: dict[str, int]
    exchange: float  # bytes per second and process, each way, between two processes of this machine
    memory: float  # bytes of memory per image with one caption, in each process


def measure(folder: Path) -> Constants:
    """Measure all constants."""
    memory = memory_per_image()  # first, while little freed memory can be reused
    transform = build_encoder(EncoderConfig(ENCODER, weights=None)).transform
    paths = list(islice(sorted(folder.glob("*.jpg")), 24))
    files = [path.read_bytes() for path in paths]
    small = [shrunk(file) for file in files]

    def decode(files: list[bytes]) -> None:
        for file in files:
            image_to_tensor(load_image(file, at_least=transform.size), transform)

    encoder = build_encoder(EncoderConfig(ENCODER, weights=None)).eval()
    images = torch.randn(32, 3, transform.size, transform.size)
    with torch.inference_mode():
        encode = processor_seconds(lambda: encoder(images)) / len(images)
    learn: dict[str, dict[int, float]] = {}
    update, gradient_bytes = {}, {}
    for name, config in DECODERS.items():
        learn[name] = {}
        for each, images in ((5, 64), (1, BATCH)):
            case = Case(config, VOCABULARY, 49, 1280, images, each)
            learn[name][each], update[name], gradient_bytes[name] = step_seconds(case)
    return Constants(
        processor_seconds(lambda: decode(files)) / len(files),
        statistics.mean(map(len, files)),
        statistics.mean(map(len, small)),
        processor_seconds(lambda: decode(small)) / len(small),
        encode,
        learn,
        update,
        gradient_bytes,
        loopback_rate(),
        memory,
    )


def memory_per_image(images: int = 100_000, words: int = 10) -> float:
    """Bytes that a process keeps for an image with one caption: path, text, token ids."""
    before = resident_bytes()
    generator = random.Random(0)
    vocabulary = Vocabulary([f"word{number}" for number in range(VOCABULARY)])
    images = tuple(
        CaptionedImage(
            number,
            Path(f"/data/images/{number // 10_000:05}/{number:09}.jpg"),
            (" ".join(f"word{generator.randrange(VOCABULARY)}" for _ in range(words)),),
        )
        for number in range(images)
    )
    dataset = CaptionDataset("web", "train", images)
    captions = encode_captions(tokenize_captions(dataset, build_tokenizer(TokenizerConfig())), vocabulary, 30)
    assert len(captions) == images
    return (resident_bytes() - before) / images


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    gc.collect()
    return memory_of("self")["VmRSS"]


def loopback_rate() -> float:
    """Bytes per processor second that two processes of this machine exchange by gloo, each way."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    processes = []
    for rank in range(2):
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "OMP_NUM_THREADS": 1}
        environment = os.environ | {key: str(value) for key, value in (job | ranks).items()}
        command = [sys.executable, __file__, "--exchange"]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    return min(float(process.communicate()[0]) for process in processes)


def exchange() -> None:
    """One process of `loopback_rate`; with two, an all-reduce sends and receives as many bytes as the tensor has."""
    join_job()
    row = torch.ones(10_000_000)
    with process_group(torch.device("cpu")):
        sys.stdout.write(f"{4 * len(row) / processor_seconds(lambda: dist.all_reduce(row))}\n")


def shrunk(file: bytes) -> bytes:
    """The JPEG file resized to 256 pixels on the shorter side, as collections of web images store it."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    scale = 256 / min(image.size)
    buffer = io.BytesIO()
    image.resize((round(image.width * scale), round(image.height * scale))).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def step_seconds(case: Case) -> tuple[float, float, int]:
    """Seconds per caption for loss and gradients, seconds per step for the update, and bytes of the gradient."""
    small = build_encoder(EncoderConfig("squeezenet1_1", weights=None, image_size=64))
    model = CaptioningModel(small, build_decoder(case.model, case.vocabulary, case.channels))
    config = OptimConfig()
    optimizer = build_optimizer(model, config)
    grid, words = batch_of(case)
    features = ImageFeatures(grid.mean(1), grid if model.needs_grid else None)
    captions, totals = pack_captions(words), BatchTotals.of(words)

    def learn() -> None:
        optimizer.zero_grad(set_to_none=True)
        captioning_losses(model, features, captions, label_smoothing=0.1, totals=totals)["loss"].backward()

    def update() -> None:
        clip_gradient(optimizer, config.clip_norm)
        optimizer.step()

    seconds = processor_seconds(learn, 3) / (case.images * case.captions)
    return seconds, processor_seconds(update, 3), 4 * sum(p.numel() for p in model.decoder.parameters())


@dataclass(frozen=True)
class Collection:
    """A training set, and its global batch size in images."""

    name: str
    images: int
    captions_per_image: int
    batch: int
    small: bool  # images of 256 pixels


COLLECTIONS = (
    Collection("COCO (Karpathy's train)", 113_287, 5, 64, False),
    Collection("12 million web pairs", 12_000_000, 1, BATCH, True),
)


@dataclass(frozen=True)
class Machine:
    """A cluster. speed: how many times as fast as the measured core one process computes."""

    name: str
    processes: int
    speed: float
    decoding_cores: float  # per process, for JPEG
    bandwidth: float  # bytes per second, each way, of the ring's slowest link; MEASURED: as between processes here
    least: float = 0.0  # minimum seconds per step: a recurrence's many small kernel launches
    batch_factor: int = 1  # larger global batches with many processes
    latency: float = 50e-6  # seconds per message between two processes


ALONE, MEASURED = float("inf"), 0.0
GPU = {"speed": 100, "least": 0.02}
MACHINES = (
    Machine("1 core", 1, 1, 1, ALONE),
    Machine("laptop, 2 cores", 2, 1, 1, MEASURED),
    Machine("workstation, 16 cores", 16, 1, 1, 1e9, batch_factor=4),
    Machine("1 GPU, 16 cores", 1, decoding_cores=16, bandwidth=ALONE, **GPU),
    Machine("1 node of 8 GPUs", 8, decoding_cores=8, bandwidth=100e9, batch_factor=4, **GPU),
    Machine("4 nodes, 10 Gbit/s", 32, decoding_cores=8, bandwidth=10e9 / 8, batch_factor=16, **GPU),
    Machine("4 nodes, 200 Gbit/s", 32, decoding_cores=8, bandwidth=200e9 / 8, batch_factor=16, **GPU),
)


def exchange_seconds(size: int, machine: Machine, measured: float) -> float:
    """Seconds of a ring all-reduce of `size` bytes: 2 (N − 1)/N · size each way, in 2 (N − 1) messages."""
    others = machine.processes - 1
    return 2 * others / machine.processes * size / (machine.bandwidth or measured) + 2 * others * machine.latency


def duration(seconds: float) -> str:
    """A readable duration."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.{0 if seconds >= 10 * length else 1}f} {unit}"
    return f"{seconds:.{0 if seconds >= 10 else 1}f} s"


def row(constants: Constants, collection: Collection, machine: Machine, decoder: str) -> list[str]:
    """A table row: one collection on one machine. Communication is counted in full, although some of it overlaps."""
    each, batch = collection.captions_per_image, collection.batch * machine.batch_factor
    steps, local_batch = collection.images / batch, batch / machine.processes  # images per process and step
    decode = (constants.small_decode if collection.small else constants.decode) / machine.decoding_cores
    encode = max(constants.encode / machine.speed, decode)  # in parallel, on GPU and CPU
    if machine.speed == 1:  # both on the CPU
        encode = constants.encode + decode
    computing = local_batch * each * constants.learn[decoder][each] + constants.update[decoder]
    learn = max(computing / machine.speed, machine.least)
    exchange = exchange_seconds(constants.gradient_bytes[decoder], machine, constants.exchange)
    return [
        machine.name,
        f"{batch}",
        duration(collection.images * encode / machine.processes),
        f"{1000 * learn:,.0f} + {1000 * exchange:,.0f} ms",
        f"{batch * each / (learn + exchange):,.0f}",
        duration(steps * (learn + exchange)),
        f"{batch * GRID_BYTES / (learn + exchange) / 1e6:,.0f} MB/s",
        duration(steps * (learn + local_batch * encode + exchange)),
    ]


def main() -> None:
    """Measure, then print the tables of docs/scale.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, nargs="?", help="a folder of JPEG files to decode")
    parser.add_argument("--exchange", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.exchange:
        exchange()
        return
    torch.manual_seed(0)
    constants = measure(arguments.images)
    write = sys.stdout.write
    write(
        f"One core: {1 / constants.decode:.0f} images/s decoded ({constants.jpeg_bytes / 1e3:.0f} KB each), "
        f"{1 / constants.small_decode:.0f} of 256 pixels ({constants.small_jpeg_bytes / 1e3:.0f} KB), "
        f"{1 / constants.encode:.0f} encoded by {ENCODER}.\n"
    )
    for name in DECODERS:
        learn = constants.learn[name]
        write(
            f"{name}: {1 / learn[5]:.0f} captions/s at 64×5, {1 / learn[1]:.0f} at {BATCH}×1; update "
            f"{1000 * constants.update[name]:.0f} ms; gradient {constants.gradient_bytes[name] / 1e6:.1f} MB.\n"
        )
    write(f"Two processes of this machine exchange {constants.exchange / 1e9:.1f} GB/s each way.\n")
    write(f"An image with one caption takes {constants.memory:,.0f} bytes of memory in each process.\n")
    titles = ["", "batch", "encode all", "step", "captions/s", "epoch", "reads", "epoch from pixels"]
    for collection in COLLECTIONS:
        images = collection.images
        jpeg = constants.small_jpeg_bytes if collection.small else constants.jpeg_bytes
        write(
            f"\n{collection.name}: {images:,} images, JPEG {images * jpeg / 1e9:,.0f} GB, cached grids "
            f"{images * GRID_BYTES / 1e9:,.0f} GB, vectors {images * VECTOR_BYTES / 1e9:,.1f} GB\n\n"
        )
        write(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n")
        for machine in MACHINES:
            write(f"| {' | '.join(row(constants, collection, machine, 'attention'))} |\n")


if __name__ == "__main__":
    main()
