"""A model whose decoder has the weighted mean of the weights of several checkpoints, as a small export.

    python benchmarks/average_checkpoints.py OUT --checkpoint flickr8k runs/a runs/b --weights 0.4 0.15 0.45 \
        --decode no_unseen_phrase=true no_doubled_phrase=true no_bad_ending=true

The checkpoints must have the same decoder and vocabulary; encoder, settings and step are those of the first one.
The average of the best checkpoints of one run is `captioner export --average best3`.
--decode changes its decoding settings. Runs that started from the same checkpoint can be averaged (Wortsman et al.
2022), those of independent runs cannot. Prints one JSON line.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import yaml
from measure import report

from captioner.checkpoint.average import mean_weights
from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.checkpoint.export import write_export
from captioner.config import DecodeConfig
from captioner.errors import ConfigError
from captioner.schema import from_plain, to_plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the folder to write; it must not exist")
    parser.add_argument("--checkpoint", type=Path, nargs="+", required=True)
    parser.add_argument("--weights", type=float, nargs="+", required=True, help="one per checkpoint; their sum is 1")
    parser.add_argument(
        "--decode", nargs="*", default=[], metavar="KEY=VALUE", help="decoding settings, such as beam_width=5"
    )
    arguments = parser.parse_args()
    if len(arguments.checkpoint) != len(arguments.weights) or abs(sum(arguments.weights) - 1) > 1e-6:
        raise ConfigError("Expected one weight per checkpoint, with a sum of 1.")
    first, *others = [load_checkpoint(path, which="latest") for path in arguments.checkpoint]
    for loaded in others:
        if loaded.vocabulary != first.vocabulary or loaded.settings.model != first.settings.model:
            raise ConfigError(f"{loaded.path} has another decoder or vocabulary than {first.path}.")
    mean_weights([loaded.model.decoder for loaded in (first, *others)], arguments.weights)
    changes = {key: yaml.safe_load(value) for key, _, value in (entry.partition("=") for entry in arguments.decode)}
    decode = from_plain(DecodeConfig, {**to_plain(first.settings.decode), **changes}, "decode")
    # A calibration of one of them would not fit their mean.
    averaged = replace(first, calibration=None, settings=replace(first.settings, decode=decode))
    arguments.out.mkdir()
    exported = write_export(averaged, arguments.out)
    size = sum(file.stat().st_size for file in arguments.out.rglob("*") if file.is_file())
    report("average_checkpoints", {"decoder_parameters": exported.decoder_parameters, "bytes": size})


if __name__ == "__main__":
    main()
