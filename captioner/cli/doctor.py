"""`python -m captioner doctor`: find what makes a trained captioner bad without a word."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.cli.main import run_command
from captioner.cli.options import read_options
from captioner.config.checks import at_least

HELP = """\
Examine a trained captioner: ten checks, each with its evidence and what to change. docs/doctor.md explains them.

  python -m captioner doctor checkpoint=runs/…
  python -m captioner doctor checkpoint=runs/… data=coco data.root=DIR output=findings.json

  checkpoint       a run folder (its best checkpoint) or a checkpoint folder
  images         of each split that are looked at (default: 200)
  train_images   of train that validation images are compared with (default: 5000)
  split            which counts as validation (default: val)
  output           also write the findings to this JSON file (default: none)
  json             print them as JSON instead of text (default: false)

data=… data.root=… device=… as for train.py; the data set defaults to that of the checkpoint's run.
The exit code is 0 where nothing is serious, 1 where something is, 2 for a mistake in the command.
"""


@dataclass
class DoctorOptions:
    """What the command is given beside the settings of train.py."""

    checkpoint: str
    images: int = 200
    train_images: int = 5000
    split: str = "val"
    output: str | None = None
    json: bool = False

    def __post_init__(self) -> None:
        at_least("images", self.images, 1)
        at_least("train_images", self.train_images, 1)


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _doctor(sys.argv[1:])))


def _doctor(arguments: Sequence[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return 0
    groups = ("data", "device")
    given = [argument for argument in arguments if argument.partition("=")[0].partition(".")[0] in groups]
    options = read_options(DoctorOptions, [argument for argument in arguments if argument not in given])

    import json

    from captioner.checkpoint.checkpoint import load_checkpoint
    from captioner.cli.data_source import data_of_run
    from captioner.cli.hydra_config import compose_train_settings
    from captioner.data.datasets.registry import available_splits, load_dataset
    from captioner.distributed.device import choose_device
    from captioner.doctor.context import build_context
    from captioner.doctor.findings import format_findings
    from captioner.doctor.run_checks import examine
    from captioner.errors import ConfigError
    from captioner.files import write_json

    config = compose_train_settings(given)
    device = choose_device(config.device)
    checkpoint = load_checkpoint(Path(options.checkpoint), device)
    data = config.data if any(argument.startswith("data") for argument in given) else data_of_run(checkpoint.path)
    if data is None:
        raise ConfigError(
            f"{checkpoint.path} does not stand in its run folder: name its data set with data=… data.root=…"
        )
    train_set = load_dataset(data, "train") if "train" in available_splits(data) else None
    val_set = load_dataset(data, options.split)
    context = build_context(checkpoint, data, train_set, val_set, options.images, device)
    findings = examine(context, options.train_images)
    plain = [finding.to_plain() for finding in findings]
    if options.output is not None:
        write_json(Path(options.output), plain)
    title = f"{checkpoint.path}, on {len(context.val.dataset):,} images of {val_set.name} {val_set.split}"
    text = (
        json.dumps(plain, indent=2, ensure_ascii=False) if options.json else f"{title}\n\n{format_findings(findings)}"
    )
    sys.stdout.write(text + "\n")
    return 1 if any(finding.severity == "serious" for finding in findings) else 0
