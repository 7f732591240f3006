"""`python -m captioner data`: look at a data set before hours are spent on it, download one, or pack it into shards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from captioner.cli.main import run_command
from captioner.errors import ConfigError

EXAMPLES = """examples:
  python -m captioner data check data=flickr8k data.root=DIR
  python -m captioner data check data=folder data.root=DIR tokenizer=whitespace
  python -m captioner data download coco --root DIR            (26 GB with train2017; resumed where it stopped)
  python -m captioner data download coco --root DIR --parts annotations val
  python -m captioner data download karpathy --root DIR
  python -m captioner data download weights --name resnet101
  python -m captioner data pack data=coco data.root=DIR --to SHARDS       (then: data=shards data.root=SHARDS)
"""


def main() -> None:
    """The entry point; exit code 1 when `check` finds errors."""
    sys.exit(run_command(_main))


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m captioner data",
        description="Check a data set, download one, or pack it into tar shards.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="report what is broken or odd in a data set, and what it will cost")
    check.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py: data=coco data.root=DIR …")
    download = commands.add_parser("download", help="fetch COCO, Karpathy's splits or torchvision's weights")
    download.add_argument("what", choices=["coco", "karpathy", "weights"])
    download.add_argument("--root", type=Path, help="where to (coco, karpathy: needed; weights: torch's own cache)")
    download.add_argument("--year", type=int, choices=[2014, 2017], default=2017, help="of COCO (default: 2017)")
    download.add_argument("--parts", nargs="+", choices=["annotations", "train", "val"], help="of COCO (default: all)")
    download.add_argument("--name", help="of the torchvision network, for weights")
    download.add_argument("--weights", default="DEFAULT", help="which of its weights (default: DEFAULT)")
    download.add_argument(
        "--mirror", action="append", metavar="URL", help="a server to try, in place of the known ones"
    )
    pack = commands.add_parser("pack", help="write a data set as tar shards, which data=shards reads")
    pack.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py: data=coco data.root=DIR …")
    pack.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder to write the shards to")
    pack.add_argument("--splits", nargs="+", metavar="SPLIT", help="which (default: all that there are)")
    pack.add_argument("--pairs", type=int, default=10_000, help="images a shard (default: 10000)")
    if sys.argv[1:2] == ["pack"]:  # settings and options in any order, which a parser of sub-commands cannot read
        _pack(pack.parse_intermixed_args(sys.argv[2:]))
        return 0
    arguments = parser.parse_args()
    if arguments.command == "check":
        return _check(arguments.overrides)
    _download(arguments)
    return 0


def _check(overrides: Sequence[str]) -> int:
    from captioner.cli.hydra_config import compose_train_settings
    from captioner.data.check.check_dataset import check_dataset

    config = compose_train_settings(overrides)
    report = check_dataset(config.data, config.tokenizer, min_count=config.vocabulary.min_count)
    sys.stdout.write(report.format() + "\n")
    return 1 if report.errors else 0


def _pack(arguments: argparse.Namespace) -> None:
    from captioner.cli.hydra_config import compose_train_settings
    from captioner.data.datasets.registry import available_splits, load_dataset
    from captioner.data.datasets.tar_shards.pack import pack_shards, packed_bytes
    from captioner.data.features.paths import check_disk_space

    data = compose_train_settings(arguments.overrides).data
    datasets = [load_dataset(data, split) for split in arguments.splits or available_splits(data)]
    what = f"Shards of {sum(map(len, datasets)):,} images"
    needed = sum(packed_bytes(dataset, arguments.pairs) for dataset in datasets)
    check_disk_space(arguments.to, what, needed, "name a folder on a larger disk with --to, or fewer --splits.")
    for dataset in datasets:
        shards = pack_shards(dataset, arguments.to, arguments.pairs)
        size = sum(path.stat().st_size for path in shards) / 1e6
        sys.stdout.write(f"{dataset.split}: {len(dataset):,} images in {len(shards)} shards, {size:,.1f} MB\n")
    sys.stdout.write(f"Use it: data=shards data.root={arguments.to}\n")


def _download(arguments: argparse.Namespace) -> None:
    from captioner.data.download import download

    if arguments.what == "weights":
        if arguments.name is None:
            raise ConfigError("download weights needs --name, a torchvision network such as resnet101.")
        path = download.download_weights(arguments.name, arguments.weights, arguments.mirror, folder=arguments.root)
        sys.stdout.write(f"{path}\n")
        return
    if arguments.root is None:
        raise ConfigError(f"download {arguments.what} needs --root, the folder to put it in.")
    if arguments.what == "karpathy":
        path = download.download_karpathy(arguments.root, arguments.mirror or download.KARPATHY_MIRRORS)
        sys.stdout.write(f"{path}\nUse it: data=coco data.root=DIR data.karpathy={path}\n")
        return
    parts, mirrors = arguments.parts or download.COCO_PARTS, arguments.mirror or download.COCO_MIRRORS
    for folder in download.download_coco(arguments.root, arguments.year, parts, mirrors):
        sys.stdout.write(f"{folder}\n")
    sys.stdout.write(f"Use it: data=coco data.root={arguments.root}\n")


if __name__ == "__main__":
    main()
