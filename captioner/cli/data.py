"""`python -m captioner data`: check a data set, download one, or pack it into tar shards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.cli.flags import FlagParser
from captioner.cli.main import run_command
from captioner.config.checks import at_least
from captioner.errors import ConfigError, DataError, near_misses

COMMANDS = {"check": "KEY=VALUE …", "download": "coco|karpathy|weights --flags …", "pack": "KEY=VALUE …"}
HELP = """\
usage: python -m captioner data check|download|pack …

  check     report what is broken or odd in a data set, and what training on it will cost
  download  fetch COCO, Karpathy's splits or torchvision's weights
  pack      write a data set as tar shards, which data=shards reads

examples:
  python -m captioner data check data=flickr8k data.root=DIR
  python -m captioner data check data=folder data.root=DIR tokenizer=whitespace
  python -m captioner data download coco --out DIR          (26 GB with train2017; resumed where it stopped)
  python -m captioner data download coco --out DIR --parts annotations val
  python -m captioner data download karpathy --out DIR
  python -m captioner data download weights --name resnet101
  python -m captioner data pack data=coco data.root=DIR out=SHARDS     (then: data=shards data.root=SHARDS)

Settings of check and pack are those of train.py that concern data. pack has three of its own:

  out=DIR                  the folder to write the shards to
  splits=[train,val]       which splits (default: all)
  images_per_shard=10000   images per shard (default: 10000)

python -m captioner data download --help lists the flags of download.
"""


@dataclass
class PackSettings:
    """Settings of `data pack` besides those of the data set."""

    out: str
    splits: list[str] | None = None
    images_per_shard: int = 10_000

    def __post_init__(self) -> None:
        at_least("images_per_shard", self.images_per_shard, 1)


def main() -> None:
    """The entry point; exit code 1 when `check` finds errors."""
    sys.exit(run_command(lambda: _data(sys.argv[1:])))


def _data(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        raise ConfigError(
            f"data {command} does not exist.{near_misses(command, COMMANDS)} Choose check, download or pack."
        )
    if command == "download":
        _download(_download_parser().read(rest or ["--help"]))
        return 0
    if {"-h", "--help"} & set(rest):
        sys.stdout.write(HELP)
        return 0
    if command == "check":
        return _check(rest)
    _pack(rest)
    return 0


def _check(overrides: Sequence[str]) -> int:
    from captioner.cli.data_source import check_data_source
    from captioner.cli.hydra_config import compose_train_settings
    from captioner.cli.setting_suggestions import check_flags

    check_flags(overrides)
    config = compose_train_settings(overrides)
    check_data_source(config.data)

    from captioner.data.check.check_dataset import check_dataset, unreadable_report

    try:
        report = check_dataset(config.data, config.tokenizer, training=config)
    except DataError as error:
        report = unreadable_report(config.data, config.tokenizer, error)
    sys.stdout.write(report.format() + "\n")
    return 1 if report.errors else 0


def _pack(arguments: Sequence[str]) -> None:
    from captioner.cli.data_source import check_data_source
    from captioner.cli.hydra_config import compose_train_settings
    from captioner.cli.own_settings import split_settings
    from captioner.cli.setting_suggestions import check_flags

    check_flags(
        arguments,
        renamed={"--to": "out=DIR", "--splits": "splits=[train,val]", "--pairs": "images_per_shard=10000"},
    )
    settings, overrides = split_settings(PackSettings, arguments)
    data = compose_train_settings(overrides).data
    check_data_source(data)

    from captioner.data.datasets.registry import available_splits, load_dataset
    from captioner.data.datasets.tar_shards.pack import pack_shards, packed_bytes
    from captioner.data.features.disk_space import check_disk_space

    out, size = Path(settings.out), settings.images_per_shard
    if settings.splits:
        datasets = [load_dataset(data, split) for split in settings.splits]
    else:  # the splits of test servers have no captions to pack
        datasets = [load_dataset(data, split, need_captions=False) for split in available_splits(data)]
        datasets = [dataset for dataset in datasets if any(image.captions for image in dataset)]
        if not datasets:
            raise DataError(f"{data.root} has no captions to pack: its images are those of a test server.")
    what = f"Shards of {sum(map(len, datasets)):,} images"
    needed = sum(packed_bytes(dataset, size) for dataset in datasets)
    check_disk_space(out, what, needed, "name a folder on a larger disk with out=DIR, or fewer splits.")
    for dataset in datasets:
        shards = pack_shards(dataset, out, size)
        megabytes = sum(path.stat().st_size for path in shards) / 1e6
        sys.stdout.write(f"{dataset.split}: {len(dataset):,} images in {len(shards)} shards, {megabytes:,.1f} MB\n")
    sys.stdout.write(f"Use it: data=shards data.root={out}\n")


def _download_parser() -> FlagParser:
    parser = FlagParser(
        "data download",
        "Fetch COCO, Karpathy's splits of it, or weights of a torchvision network.",
        [
            "data download coco --out DIR --parts annotations val",
            "data download karpathy --out DIR",
            "data download weights --name resnet101",
        ],
        {"root": "--out"},
    )
    parser.add_argument("what", choices=["coco", "karpathy", "weights"], help="what to download")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to (coco, karpathy: required; weights: torch's cache)"
    )
    parser.add_argument("--year", type=int, choices=[2014, 2017], default=2017, help="of COCO (default: 2017)")
    parser.add_argument("--parts", nargs="+", choices=["annotations", "train", "val"], help="of COCO (default: all)")
    parser.add_argument("--name", help="of the torchvision network, for weights")
    parser.add_argument("--weights", default="DEFAULT", help="which of its weights (default: DEFAULT)")
    parser.add_argument("--mirror", action="append", metavar="URL", help="a server to use instead of the known ones")
    return parser


def _download(arguments: argparse.Namespace) -> None:
    if arguments.what == "weights" and arguments.name is None:
        raise ConfigError("download weights needs --name, a torchvision network such as resnet101.")
    if arguments.what != "weights" and arguments.out is None:
        raise ConfigError(f"download {arguments.what} needs --out, the folder to write to.")

    from captioner.data.download import download

    if arguments.what == "weights":
        path = download.download_weights(arguments.name, arguments.weights, arguments.mirror, folder=arguments.out)
        sys.stdout.write(f"{path}\n")
        return
    if arguments.what == "karpathy":
        path = download.download_karpathy(arguments.out, arguments.mirror or download.KARPATHY_MIRRORS)
        sys.stdout.write(f"{path}\nUse it: data=coco data.root=DIR data.karpathy={path}\n")
        return
    parts, mirrors = arguments.parts or download.COCO_PARTS, arguments.mirror or download.COCO_MIRRORS
    for folder in download.download_coco(arguments.out, arguments.year, parts, mirrors):
        sys.stdout.write(f"{folder}\n")
    sys.stdout.write(f"Use it: data=coco data.root={arguments.out}\n")
