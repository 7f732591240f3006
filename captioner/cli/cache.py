"""`python -m captioner cache`: compute a frozen encoder's features of a data set before any training needs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from captioner.cli.choices import choices
from captioner.cli.data_source import check_data_source
from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.main import run_command
from captioner.cli.options import read_options
from captioner.distributed.device import check_device_name
from captioner.errors import ConfigError, choose

KINDS = ("grid", "vector")
HELP = """\
Compute a frozen encoder's features of a data set and keep them, before any training needs them.

  python -m captioner cache data=flickr8k data.root=DIR
  python -m captioner cache data=coco data.root=DIR encoder=resnet101 split=val
  python -m captioner cache data=coco data.root=DIR kind=vector cache.directory=/disk/features

It says how many images, bytes and minutes before it starts. Stopped at any moment it is carried on by the same
command; several processes, also of several machines that share the folder, may fill it at once and train meanwhile.

  split           train, val or test (default: all there are)
  kind            grid: for every model; vector: for models without attention only, a small part of the disk
                  (default: grid)

Options of train.py are taken as they are there, and those of the data set, the encoder and the cache matter:

  data=… data.root=… data.limit=… data.num_workers=… data.on_bad_image=…
  encoder=… encoder.weights=… encoder.image_size=… encoder.resize=…
  cache.directory=… cache.flips=… device=…

Choices (GROUP=CHOICE):

"""


@dataclass
class CacheOptions:
    """What the command is given beside the settings of train.py."""

    split: str | None = None
    kind: str = "grid"

    def __post_init__(self) -> None:
        choose("kind", self.kind, KINDS)


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _cache(sys.argv[1:])))


def _cache(arguments: Sequence[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP + choices("data", "encoder", "cache"))
        return
    own = [argument for argument in arguments if argument.partition("=")[0] in ("split", "kind")]
    options = read_options(CacheOptions, own)
    config = compose_train_settings([argument for argument in arguments if argument not in own])
    if not config.cache.enabled:
        raise ConfigError("cache.enabled=false leaves no cache to be filled. Leave it out.")
    check_device_name(config.device)
    check_data_source(config.data)

    from captioner.cli.cache_job import compute_features

    compute_features(config, options.split, with_grid=options.kind == "grid")
