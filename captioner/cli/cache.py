"""`python -m captioner cache`: compute a frozen encoder's features of a data set before any training needs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from captioner.cli.choices import choices
from captioner.cli.data_source import check_data_source
from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.main import run_command
from captioner.cli.own_settings import split_settings
from captioner.cli.setting_suggestions import check_flags
from captioner.distributed.device import check_device_name
from captioner.errors import ConfigError, choose

KINDS = ("grid", "vector")
HELP = """\
Compute a frozen encoder's features of a data set and keep them, before any training needs them.

  python -m captioner cache data=flickr8k data.root=DIR
  python -m captioner cache data=coco data.root=DIR encoder=resnet101 split=val
  python -m captioner cache data=coco data.root=DIR kind=vector cache.directory=/disk/features

It prints how many images, bytes and minutes it will take before it starts. Stopped at any moment, the same command
resumes it. Several processes, also on several machines that share the folder, may fill it at once and train meanwhile.

  split=val       train, val or test (default: all)
  kind=vector     grid: for every model; vector: one vector per image, for models without attention (default: grid)

All settings of train.py are accepted; those of the data set, the encoder and the cache matter:

  data=… data.root=… data.limit=… data.num_workers=… data.on_bad_image=…
  encoder=… encoder.weights=… encoder.image_size=… encoder.resize=…
  cache.directory=… cache.flips=… device=…

Choices (GROUP=CHOICE):

"""


@dataclass
class CacheSettings:
    """Settings of the command besides those of train.py."""

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
    check_flags(arguments)
    settings, overrides = split_settings(CacheSettings, arguments)
    config = compose_train_settings(overrides)
    if not config.cache.enabled:
        raise ConfigError("cache.enabled=false leaves no cache to fill: leave this setting out.")
    if config.data.features is not None:
        raise ConfigError(f"data.features={config.data.features}: features made elsewhere are not computed here.")
    check_device_name(config.device)
    check_data_source(config.data)

    from captioner.cli.cache_job import compute_features

    compute_features(config, settings.split, with_grid=settings.kind == "grid")
