"""`python -m captioner COMMAND`: every command in one place."""

from __future__ import annotations

import importlib
import sys

from captioner.errors import near_misses

COMMANDS = {
    "train": "train a captioner, or a language model (python train.py)",
    "evaluate": "caption a split and score the captions, or score a file of captions (python evaluate.py)",
    "submission": "check files of captions for a test server, and pack them",
    "caption": "caption photos (python caption.py)",
    "demo": "open a web page on which to try captioners on photos",
    "quickstart": "train a small captioner on synthetic images in some minutes (make demo)",
    "runs": "compare finished runs in one table",
    "doctor": "find silent failures of a trained captioner",
    "import": "convert a checkpoint of another captioning project to a run folder",
    "calibrate": "make a captioner say how sure it is of a caption",
    "consensus": "fit a predictor of what people say about an image, to choose among captions",
    "export": "share a trained captioner as a small folder or one file",
    "data": "check a data set, download one, or pack it into tar shards",
    "cache": "compute a data set's features before training",
    "retrieve": "find images by a sentence, and measure retrieval in both directions",
    "sample": "generate text with a trained language model",
    "cells": "show which unit of a network tracks what",
    "gradients": "measure how far back in time a language model's gradient reaches",
}
MODULES = {"import": "import_checkpoint"}
"""Command → its module in `captioner.cli`, where that has another name, because Python reserves the command's."""

HELP = """\
usage: python -m captioner COMMAND …

{commands}

train, evaluate, cache and data take settings as KEY=VALUE, the others --flags. Each command has --help.
CAPTIONER_DEBUG=1 shows tracebacks.
"""


def main() -> None:
    """Run the command's module in `captioner.cli`; exit code 2 for a command that does not exist."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help", "help"):
        sys.stdout.write(HELP.format(commands="\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())))
        return
    if command not in COMMANDS:
        sys.stderr.write(f"error: {command} does not exist.{near_misses(command, COMMANDS)} See --help.\n")
        sys.exit(2)
    sys.argv = [f"captioner {command}", *sys.argv[2:]]
    try:
        module = importlib.import_module(f"captioner.cli.{MODULES.get(command, command)}")
    except ModuleNotFoundError as error:
        if (error.name or "captioner").split(".")[0] == "captioner":
            raise
        sys.stderr.write(f"error: {command} needs {error.name}, which is not installed: pip install captioner.\n")
        sys.exit(2)
    module.main()


if __name__ == "__main__":
    main()
