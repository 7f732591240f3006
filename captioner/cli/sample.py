"""`python -m captioner sample checkpoint=runs/…`: text from a trained language model."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from captioner.cli.main import run_command
from captioner.cli.options import read_options
from captioner.config import SamplingConfig

HELP = """\
Let a trained language model write.

  python -m captioner sample checkpoint=runs/... prompt="static int " length=500 temperature=0.8 seed=0

  checkpoint    a run folder (its best checkpoint) or a checkpoint folder
  prompt        what the model reads first, and goes on from (default: nothing)
  length        tokens that are drawn: characters or words, as the model was trained (default: 500)
  temperature   below 1 the probable tokens become more probable, above 1 less (default: 1)
  top_k         only the k most probable tokens; 0: all (default: 0)
  top_p         then the fewest most probable tokens with at least this probability (default: 1)
  seed          fixes what is drawn (default: 0)
  device        auto, cpu, cuda, cuda:1 or mps (default: auto)
"""


@dataclass
class SampleOptions(SamplingConfig):
    """What the command is given."""

    checkpoint: str = field(kw_only=True)
    device: str = "auto"


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _sample(sys.argv[1:])))


def _sample(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return
    options = read_options(SampleOptions, arguments)

    from captioner.checkpoint.language_model_checkpoint import load_language_model
    from captioner.decode.text_sampling import sample_tokens
    from captioner.distributed.device import choose_device
    from captioner.text.text_tokens import join_tokens, split_text

    loaded = load_language_model(Path(options.checkpoint), choose_device(options.device))
    level = loaded.settings.data.level
    prompt = split_text(options.prompt, level)
    unknown = sorted({token for token in prompt if token not in loaded.vocabulary})
    if unknown:
        names = ", ".join(map(repr, unknown))
        sys.stderr.write(f"Note: {names} did not occur in the training text; the model reads <UNK> there.\n")
    tokens = sample_tokens(loaded.model, loaded.vocabulary.encode(prompt), options)
    said = loaded.vocabulary.decode(tokens)
    sys.stdout.write(join_tokens([*prompt, *said], level) + "\n")
