"""Memory during an epoch of millions of pairs in tar shards: it must not grow with what has been read.

    python benchmarks/shards_epoch.py FOLDER --pairs 1200000 [--workers 2]

Writes the shards to FOLDER if they are not there (one small JPEG file under many keys, each with a caption of its own;
2.5 GB for 1.2 million pairs), then goes through one shuffled epoch as training does: split, tokens, vocabulary, token
ids, batches, and images from the loader's worker processes. Prints one JSON line at the start and after 10, 50 and
100 % of the epoch: the own pages of this process and of its workers in MB, and the processor seconds so far.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from process_memory import memory_of

from captioner.config import ShardsConfig, TokenizerConfig, TransformConfig, VocabularyConfig
from captioner.data.batches import captioned_images, encode_captions, epoch_batches, tokenize_captions
from captioner.data.datasets.registry import load_dataset
from captioner.data.images.loader import load_image_batches
from captioner.files import atomic_file
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import Vocabulary

PAIRS_PER_SHARD = 10_000
VAL_PAIRS = 1_000
PIXELS = 32
BATCH = 256
WORDS = [f"{first}{second}{third}" for first in "bdfgklmnprst" for second in "aeiou" for third in "bdfgklmnprst"]
MARKS = (0.1, 0.5, 1.0)  # of the epoch


def small_jpeg() -> bytes:
    """A JPEG file of PIXELS × PIXELS."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((PIXELS, PIXELS)).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def member(name: str, content: bytes) -> bytes:
    """A file of a tar archive (ustar): its header and its content, padded."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    return header.tobuf(tarfile.USTAR_FORMAT) + content + b"\0" * (-len(content) % tarfile.BLOCKSIZE)


def write_shards(folder: Path, pairs: int) -> None:
    """`pairs` training pairs and some for validation, in the format that `captioner data pack` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    generator, image = random.Random(0), small_jpeg()
    starts = [("train", start) for start in range(0, pairs, PAIRS_PER_SHARD)] + [("val", pairs)]
    ends = {"train": pairs, "val": pairs + VAL_PAIRS}
    for split, start in starts:
        path = folder / f"{split}-{start // PAIRS_PER_SHARD:05}.tar"
        if path.exists():
            continue
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            for number in range(start, min(start + PAIRS_PER_SHARD, ends[split])):
                caption = " ".join(generator.choices(WORDS, k=generator.randrange(8, 15)))
                file.write(member(f"{number:09}.jpg", image) + member(f"{number:09}.txt", caption.encode()))
            file.write(b"\0" * tarfile.RECORDSIZE)


def own_megabytes(pid: int | str) -> float:
    """The own (anonymous) pages of a process."""
    memory = memory_of(pid)
    if "RssAnon" not in memory:
        raise SystemExit("/proc has no RssAnon: this needs Linux.")
    return round(memory["RssAnon"] / 1_024_000, 1)


def children() -> list[int]:
    """The worker processes of the loader."""
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "python"], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def tell(done: str, started: float) -> None:
    """Print a line of what is used now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    workers = [own_megabytes(pid) for pid in children()]
    row = {
        "epoch": done,
        "own_MB": own_megabytes("self"),
        "workers_MB": workers,
        "processor_s": round(used.ru_utime + used.ru_stime),
        "wall_s": round(time.monotonic() - started),
    }
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Write the shards if need be, and read an epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--pairs", type=int, default=1_200_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    started = time.monotonic()
    os.environ.setdefault("CAPTIONER_CACHE", str(arguments.folder / "cache"))
    write_shards(arguments.folder / "shards", arguments.pairs)
    tell("shards written", started)
    config = ShardsConfig(root=str(arguments.folder / "shards"), num_workers=arguments.workers)
    dataset = load_dataset(config, "train")
    tell(f"split of {len(dataset):,} pairs read", started)
    tokenized = tokenize_captions(dataset, build_tokenizer(TokenizerConfig()))
    captions = encode_captions(tokenized, Vocabulary.from_counts(tokenized.counts, VocabularyConfig()), 30)
    del tokenized
    batches = epoch_batches(captioned_images(captions, dataset), BATCH, seed=0, epoch=1)
    tell("captions encoded", started)
    marks = {max(1, round(mark * len(batches))): f"{mark:.0%}" for mark in MARKS}
    images = words = 0
    transform = TransformConfig(size=PIXELS)
    for number, loaded in enumerate(load_image_batches(dataset.paths, batches, transform, config), start=1):
        images += len(loaded.indices)
        words += sum(len(caption) for index in loaded.indices for caption in captions[index])
        if number in marks:
            tell(marks[number], started)
    sys.stdout.write(json.dumps({"images": images, "words": words, "batches": len(batches)}) + "\n")
    if images != arguments.pairs:
        sys.exit(f"{images:,} images were read, not {arguments.pairs:,}.")


if __name__ == "__main__":
    main()
