"""Cost of tar shards: indexing, reading compared with files, and memory per pair before the first step.

    python benchmarks/tar_shards.py data=flickr8k data.root=DIR --pairs 40000

Shards repeat the data set's images under new ids, with their first captions; the same images are read from their files
for comparison, both in shuffled order and from the system's file cache. Memory is the growth of a new process's
anonymous memory between two numbers of pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import torch
from measure import report
from process_memory import memory_of

from captioner.cli.hydra_config import compose_train_settings
from captioner.config import ShardsConfig, TokenizerConfig, VocabularyConfig
from captioner.data.batches import captioned_images, encode_captions, tokenize_captions
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import load_dataset
from captioner.data.datasets.tar_shards.pack import pack_shards
from captioner.data.datasets.tar_shards.shard_index import index_file
from captioner.data.images.decode import load_image
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import Vocabulary

PAIRS_PER_SHARD = 5000


def repeated(dataset: CaptionDataset, pairs: int) -> CaptionDataset:
    """The data set's images repeated to `pairs` pairs, each with its own id."""
    images = (
        replace(image, image_id=f"{number:09}", captions=image.captions[:1])
        for number, image in enumerate(cycle(dataset))
    )
    return replace(dataset, name="repeated", split="train", images=tuple(islice(images, pairs)))


def seconds_to_read(dataset: CaptionDataset, images: int, *, decode: bool) -> float:
    """Seconds to read (and decode) images in shuffled order, the second time, from the system's file cache."""
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()[:images]
    for _ in range(2):
        start = time.perf_counter()
        for index in order:
            path = dataset.paths[index]
            if decode:
                load_image(path, at_least=224)
            else:
                path.read_bytes()
        seconds = time.perf_counter() - start
    return seconds


def resident_megabytes() -> float:
    """Anonymous memory of this process, without mapped files."""
    memory = memory_of("self")
    if "RssAnon" not in memory:
        raise SystemExit("/proc/self/status has no RssAnon: this part needs Linux.")
    return memory["RssAnon"] / 2**20


def memory_before_training(root: str, limit: int) -> dict[str, float]:
    """Megabytes after each stage before the first step."""
    config = ShardsConfig(root=root, limit=limit)
    megabytes = {"imports": resident_megabytes()}
    dataset = load_dataset(config, "train")
    megabytes["data set"] = resident_megabytes()
    tokenized = tokenize_captions(dataset, build_tokenizer(TokenizerConfig()))
    vocabulary = Vocabulary.from_captions((words for of_image in tokenized for words in of_image), VocabularyConfig())
    captions = encode_captions(tokenized, vocabulary, 30)
    del tokenized
    megabytes["captions"] = resident_megabytes()
    usable = captioned_images(captions, dataset)
    megabytes["usable"] = resident_megabytes() + 0 * len(usable)
    return megabytes


def measured_memory(root: Path, limit: int) -> dict[str, float]:
    """The result of `memory_before_training` in a new process."""
    command = [sys.executable, __file__, "--memory", str(root), "--pairs", str(limit)]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the data set, as for train.py")
    parser.add_argument("--pairs", type=int, default=40_000)
    parser.add_argument("--images", type=int, default=2000, help="images to read for the comparison")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_intermixed_args()
    if arguments.memory:
        print(json.dumps(memory_before_training(arguments.memory, arguments.pairs)))
        return
    torch.set_num_threads(1)
    files = load_dataset(compose_train_settings(arguments.overrides).data, "train")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["CAPTIONER_CACHE"] = f"{temporary}/cache"
        root = Path(temporary, "shards")
        start = time.perf_counter()
        shards = pack_shards(repeated(files, arguments.pairs), root, PAIRS_PER_SHARD)
        packed = time.perf_counter()
        config = ShardsConfig(root=str(root), num_workers=1)
        load_dataset(config, "train")
        indexed = time.perf_counter()
        dataset = load_dataset(config, "train")
        opened = time.perf_counter()
        images = min(arguments.images, len(files))
        seconds = {
            f"{what} from {source}": images / seconds_to_read(source_dataset, images, decode=what == "decoded")
            for what in ("bytes", "decoded")
            for source, source_dataset in (
                ("tar", replace(dataset, images=dataset.images[: len(files)])),
                ("files", files),
            )
        }
        half = arguments.pairs // 2
        small, large = (measured_memory(root, limit) for limit in (half, arguments.pairs))
        growth = {name: (large[name] - small[name]) * 2**20 / (arguments.pairs - half) for name in large}
        report(
            "tar_shards",
            {
                "pairs": arguments.pairs,
                "packed_per_second": round(arguments.pairs / (packed - start)),
                "indexed_and_loaded_per_second": round(arguments.pairs / (indexed - packed)),
                "loaded_per_second": round(arguments.pairs / (opened - indexed)),
                "index_bytes_per_pair_on_disk": round(
                    sum(index_file(p).stat().st_size for p in shards) / arguments.pairs
                ),
                "images_per_second": {name: round(value) for name, value in seconds.items()},
                "memory_bytes_per_pair": {name: round(value) for name, value in growth.items()},
            },
        )


if __name__ == "__main__":
    main()
