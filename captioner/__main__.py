"""`python -m captioner COMMAND`: every command in one place."""

from __future__ import annotations

import importlib
import sys

from captioner.errors import near_misses

COMMANDS = {
    "train": "train a captioner, or a language model (the same as python train.py)",
    "evaluate": "caption and score a split, or score captions (python evaluate.py)",
    "caption": "caption photos (python caption.py)",
    "demo": "try captioners on photos, on a page in the browser",
    "sample": "let a trained language model write",
    "cells": "show which unit of a network keeps track of what",
    "gradients": "show how far back in time a language model's gradient reaches",
    "retrieve": "find the images that a sentence speaks of",
    "runs": "show finished runs side by side",
    "export": "hand on a trained captioner, as a small folder or one file",
    "doctor": "find what makes a trained captioner bad without a word",
    "cache": "compute a data set's features before a training needs them",
    "data": "check a data set before hours are spent, download one, or pack it into tar shards",
}


def main() -> None:
    """Hand over to the command's module in `captioner.cli`; exit code 2 for a command that is not there."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help", "help"):
        sys.stdout.write("usage: python -m captioner COMMAND …\n\n")
        sys.stdout.writelines(f"  {name:<10}{text}\n" for name, text in COMMANDS.items())
        sys.stdout.write("\nEach command has --help. CAPTIONER_DEBUG=1 shows tracebacks.\n")
        return
    if command not in COMMANDS:
        sys.stderr.write(f"error: {command} is not a command.{near_misses(command, COMMANDS)} See --help.\n")
        sys.exit(2)
    sys.argv = [f"captioner {command}", *sys.argv[2:]]
    importlib.import_module(f"captioner.cli.{command}").main()


if __name__ == "__main__":
    main()
