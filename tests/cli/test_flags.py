"""The grammar of --flags: each mistake is one message that gives the right form."""

from __future__ import annotations

import argparse

import pytest

from captioner.cli.flags import FlagParser, add_checkpoint, add_data, add_device, add_json
from captioner.errors import ConfigError


@pytest.fixture
def parser() -> FlagParser:
    parser = FlagParser("look", "Look.", ["look --checkpoint runs/a"], {"output": "--out"})
    add_checkpoint(parser, several=True)
    parser.add_argument("--out")
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--scale", choices=("one", "two"))
    add_json(parser, "print JSON")
    add_data(parser)
    add_device(parser)
    return parser


def test_text_without_its_flag(parser: FlagParser) -> None:
    parser.add_argument("--query")
    with pytest.raises(ConfigError, match=r"a dog is not expected here: write --query 'a dog'\."):
        parser.read(["--checkpoint", "a", "--out", "b", "a dog"])


def test_values(parser: FlagParser) -> None:
    arguments = parser.read(
        ["--checkpoint", "a", "b=c", "--top-k=-1", "--set", "data.limit=3", "--out", "x=y", "--json"]
    )
    assert isinstance(arguments, argparse.Namespace)
    assert arguments.checkpoint == ["a", "b=c"]
    assert (arguments.top_k, arguments.set, arguments.out, arguments.json) == (-1, ["data.limit=3"], "x=y", True)
    assert (arguments.data, arguments.data_root, arguments.split, arguments.device) == (None, None, "val", "auto")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--chekpoint a", "--chekpoint does not exist. Did you mean --checkpoint?"),
        ("--json", "--checkpoint is missing. See python -m captioner look --help."),
        ("--checkpoint", "--checkpoint needs a value."),
        ("--checkpoint a --top-k many", "--top-k many has the wrong type: expected a whole number."),
        ("--checkpoint a --scale tow", "--scale='tow' does not exist. Did you mean two? Choose one of: one, two."),
        ("--checkpoint a --output x", "--output was renamed: use --out."),
        ("--checkpoint a --top_k 3", "--top_k does not exist: use --top-k."),
        ("a", "a is not expected here: write --checkpoint a."),
        ("--checkpoint a --out b c", "c is not expected here. See python"),
        ("checkpoint=a", "This command takes flags: write --checkpoint a instead of checkpoint=a."),
        ("--checkpoint a top_k=3", "write --top-k 3 instead of top_k=3."),
        ("--checkpoint a --out b output=x", "write --out x instead of output=x."),
        ("json=true", "write --json instead of json=true."),
        ("json=false", "leave --json out instead of json=false."),
        ("data.root=x", "write --data-root x instead of data.root=x."),
        ("data.limit=3", "write --set data.limit=3 instead of data.limit=3."),
        ("frobnicate=3", "--frobnicate does not exist."),
    ],
)
def test_mistakes(parser: FlagParser, given: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parser.read(given.split())
    assert message in str(raised.value)
