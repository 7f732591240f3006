"""`python -m captioner doctor --checkpoint RUN`: find silent failures of a trained captioner."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from captioner.checkpoint.index import find_checkpoint
from captioner.cli.data_source import chosen_data
from captioner.cli.flags import FlagParser, add_checkpoint, add_data, add_device, add_json
from captioner.cli.main import run_command
from captioner.config.checks import at_least
from captioner.distributed.device import check_device_name
from captioner.errors import CaptionerError


def main() -> None:
    """The entry point; exit code 1 where a finding is serious."""
    sys.exit(run_command(lambda: _doctor(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "doctor",
        "Examine a trained captioner: ten checks, each with its evidence and what to change. docs/doctor.md explains\n"
        "them. The exit code is 0 where nothing is serious, 1 where something is, 2 for a mistake in the command.",
        [
            "doctor --checkpoint runs/…",
            "doctor --checkpoint runs/… --data coco --data-root DIR --out findings.json",
        ],
        {"output": "--out"},
    )
    add_checkpoint(parser)
    parser.add_argument("--images", type=int, default=200, help="images of each split to check (default: 200)")
    parser.add_argument(
        "--train-images",
        type=int,
        default=5000,
        help="images of train that validation images are compared with (default: 5000)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the findings to this JSON file")
    add_json(parser, "print the findings as JSON instead of text")
    add_data(parser)
    add_device(parser)
    return parser


def _doctor(arguments: argparse.Namespace) -> int:
    at_least("--images", arguments.images, 1)
    at_least("--train-images", arguments.train_images, 1)
    check_device_name(arguments.device)
    if arguments.out is not None:
        _check_out(arguments.out)
    folder = find_checkpoint(Path(arguments.checkpoint))
    data = chosen_data(folder, arguments.data, arguments.data_root, arguments.set)

    from captioner.checkpoint.checkpoint import load_checkpoint
    from captioner.data.datasets.registry import available_splits, load_dataset
    from captioner.distributed.device import choose_device
    from captioner.doctor.context import build_context
    from captioner.doctor.findings import format_findings
    from captioner.doctor.run_checks import run_checks
    from captioner.files import write_json

    device = choose_device(arguments.device)
    checkpoint = load_checkpoint(folder, device)
    train_set = load_dataset(data, "train") if "train" in available_splits(data) else None
    val_set = load_dataset(data, arguments.split)
    context = build_context(checkpoint, data, train_set, val_set, arguments.images, device)
    findings = run_checks(context, arguments.train_images)
    plain = [finding.to_plain() for finding in findings]
    if arguments.out is not None:
        write_json(arguments.out, plain)
    if arguments.json:
        text = json.dumps(plain, indent=2, ensure_ascii=False)
    else:
        title = f"{checkpoint.path}, on {len(context.val.dataset):,} images of {val_set.name} {val_set.split}"
        text = f"{title}\n\n{format_findings(findings)}"
    sys.stdout.write(text + "\n")
    return 1 if any(finding.severity == "serious" for finding in findings) else 0


def _check_out(out: Path) -> None:
    """CaptionerError where the findings cannot be written, or would replace what are no findings."""
    if not out.absolute().parent.is_dir():
        raise CaptionerError(f"--out {out}: the folder {out.absolute().parent} does not exist.")
    if out.exists() and not _has_findings(out):
        raise CaptionerError(f"--out {out} exists, and has no findings that could be replaced: name another file.")


def _has_findings(path: Path) -> bool:
    """Whether doctor has written this file, or nothing is in it."""
    if not path.is_file():
        return False
    try:
        text = path.read_text(encoding="utf-8")
        findings = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return False
    return isinstance(findings, list) and all(
        isinstance(finding, dict) and {"check", "severity", "evidence"} <= finding.keys() for finding in findings
    )
