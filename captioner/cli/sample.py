"""`python -m captioner sample --checkpoint RUN`: text from a trained language model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from captioner.checkpoint.index import find_checkpoint
from captioner.cli.flags import FlagParser, add_checkpoint, add_device, add_json
from captioner.cli.main import run_command
from captioner.config import SamplingConfig
from captioner.distributed.device import check_device_name
from captioner.schema import to_plain


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _sample(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    default = SamplingConfig()
    parser = FlagParser(
        "sample",
        "Generate text with a trained language model.",
        [
            "sample --checkpoint runs/…",
            'sample --checkpoint runs/… --prompt "static int " --length 500 --temperature 0.8 --seed 0',
        ],
    )
    add_checkpoint(parser)
    parser.add_argument("--prompt", default="", help="text that the model reads first and continues (default: none)")
    parser.add_argument(
        "--length",
        type=int,
        default=default.length,
        help=f"tokens to generate: characters or words, as the model was trained (default: {default.length})",
    )
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="below 1 favors probable tokens, above 1 less so (default: 1)"
    )
    parser.add_argument("--top-k", type=int, default=0, help="only the k most probable tokens; 0: all (default: 0)")
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="the fewest most probable tokens with this probability (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="fixes the sampled tokens (default: 0)")
    add_device(parser)
    add_json(parser, "print one JSON object: prompt, text, the generated tokens, and the settings of sampling")
    return parser


def _sample(arguments: argparse.Namespace) -> None:
    sampling = SamplingConfig(
        prompt=arguments.prompt,
        length=arguments.length,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    check_device_name(arguments.device)
    checkpoint = find_checkpoint(Path(arguments.checkpoint))

    from captioner.checkpoint.language_model_checkpoint import load_language_model
    from captioner.decode.text_sampling import sample_tokens
    from captioner.distributed.device import choose_device
    from captioner.text.text_tokens import join_tokens, split_text

    loaded = load_language_model(checkpoint, choose_device(arguments.device))
    level = loaded.settings.data.level
    prompt = split_text(sampling.prompt, level)
    unknown = sorted({token for token in prompt if token not in loaded.vocabulary})
    if unknown:
        names = ", ".join(map(repr, unknown))
        sys.stderr.write(f"Note: {names} did not occur in the training text; the model reads <UNK> there.\n")
    tokens = sample_tokens(loaded.model, loaded.vocabulary.encode(prompt), sampling)
    generated = loaded.vocabulary.decode(tokens)
    text = join_tokens([*prompt, *generated], level)
    if arguments.json:
        record = {"prompt": sampling.prompt, "text": text, "tokens": generated, "sampling": to_plain(sampling)}
        text = json.dumps(record, ensure_ascii=False)
    sys.stdout.write(text + "\n")
