"""The grammar of the commands that take `--flags`: argparse, with messages of our own.

The commands that compose settings take KEY=VALUE instead (`captioner.cli.overrides`). A flag means the same in every
command: those that several commands take are defined here once.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from captioner.errors import ConfigError, choose, near_misses

_TYPES = {"int": "a whole number", "float": "a number"}


class FlagParser(argparse.ArgumentParser):
    """A parser whose mistakes are ConfigErrors: one message with the flag that was meant, no usage text."""

    def __init__(
        self, command: str, description: str, examples: Iterable[str] = (), renamed: Mapping[str, str] | None = None
    ) -> None:
        """`renamed`: flags and KEY=VALUE options of earlier releases, without dashes → the flag to use instead."""
        lines = [f"  python -m captioner {example}" for example in examples]
        super().__init__(
            prog=f"python -m captioner {command}",
            description=description,
            epilog="\n".join(["examples:", *lines]) if lines else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self._renamed = dict(renamed or {})

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse the command line; ConfigError says what is wrong and what to write instead."""
        self._check_grammar(arguments)
        return self.parse_intermixed_args(list(arguments))  # files may stand before, between and after flags

    def error(self, message: str) -> NoReturn:
        """Raise argparse's `message` as a ConfigError in this project's words."""
        if match := re.fullmatch(r"the following arguments are required: (.+)", message):
            raise ConfigError(f"{match[1]} is missing.{self._see_help()}")
        if match := re.fullmatch(r"argument ([^:]+): (.+)", message, flags=re.DOTALL):
            flag, problem = match[1].split("/")[-1], match[2]
            if choice := re.match(r"invalid choice: '(.*?)'", problem):
                choose(flag, choice[1], map(str, self._option_string_actions[flag].choices or ()))
            if wrong := re.fullmatch(r"invalid (\w+) value: '(.*)'", problem, flags=re.DOTALL):
                raise ConfigError(f"{flag} {wrong[2]} has the wrong type: expected {_TYPES.get(wrong[1], wrong[1])}.")
            if problem.startswith("expected"):
                raise ConfigError(f"{flag} needs a value.{self._see_help()}")
            raise ConfigError(f"{flag}: {problem}.{self._see_help()}")
        raise ConfigError(f"{message}.{self._see_help()}")

    def _check_grammar(self, arguments: Sequence[str]) -> None:
        """ConfigError for a flag that does not exist, and for KEY=VALUE where a flag is expected."""
        takes_files = bool(self._get_positional_actions())
        most, values = 0, 0  # of the last flag: how many values it takes, and has
        for argument in arguments:
            flag, equals, _ = argument.partition("=")
            if argument == "--":
                return
            if argument.startswith("--"):
                if flag not in self._option_string_actions:
                    raise ConfigError(self._unknown(flag.removeprefix("--")))
                nargs = self._option_string_actions[flag].nargs
                most, values = (len(arguments) if nargs == "+" else nargs != 0), int(bool(equals))
            elif values < most and not (values and equals and self._flag_for(flag)):
                values += 1
            elif equals and not (takes_files and ("://" in argument or Path(argument).exists())):
                self._check_setting(argument)
            elif not takes_files and not argument.startswith("-"):
                flags = self._option_string_actions
                given = {each.partition("=")[0] for each in arguments}
                missing = next(
                    (each for each in ("--checkpoint", "--query") if each in flags and each not in given), ""
                )
                hint = f": write {missing} {shlex.quote(argument)}" if missing else ""
                raise ConfigError(f"{argument} is not expected here{hint}.{self._see_help()}")

    def _check_setting(self, argument: str) -> NoReturn:
        """ConfigError that gives KEY=VALUE as a flag."""
        key, _, value = argument.partition("=")
        flag = self._flag_for(key)
        if flag is None and "--set" in self._option_string_actions and key.startswith("data."):
            raise ConfigError(f"This command takes flags: write --set {shlex.quote(argument)} instead of {argument}.")
        if flag is None:
            raise ConfigError(self._unknown(key))
        if self._option_string_actions[flag].nargs == 0:
            advice = f"write {flag}" if value.lower() == "true" else f"leave {flag} out"
        else:
            advice = f"write {flag} {shlex.quote(value)}"
        raise ConfigError(f"This command takes flags: {advice} instead of {argument}.")

    def _flag_for(self, key: str) -> str | None:
        """The flag of this key, under its name or an earlier one."""
        flag = self._renamed.get(key, f"--{re.sub('[._]', '-', key)}")
        return flag if flag in self._option_string_actions else None

    def _unknown(self, name: str) -> str:
        flag = self._flag_for(name)
        if flag is not None:
            problem = "was renamed" if name in self._renamed else "does not exist"
            return f"--{name} {problem}: use {flag}."
        flags = [option for option in self._option_string_actions if option.startswith("--")]
        return f"--{name} does not exist.{near_misses(f'--{name}', flags)}{self._see_help()}"

    def _see_help(self) -> str:
        return f" See {self.prog} --help."


def add_checkpoint(
    parser: argparse.ArgumentParser, default: str | None = None, *, several: str = "", newest: bool = False
) -> None:
    """`--checkpoint RUN`; required where there is no `default` (a phrase for the help). newest: also `--newest`.

    several: what several checkpoints do ("are compared"), where they are allowed.
    """
    group = parser.add_mutually_exclusive_group() if newest else parser
    if newest:
        group.add_argument("--newest", action="store_true", help="use the finished run in runs/ that is the newest")
    what = "run folder (its best checkpoint), checkpoint folder, or name of a captioner that comes with the package"
    group.add_argument(
        "--checkpoint",
        metavar="RUN",
        nargs="+" if several else None,
        required=default is None,
        help=f"{what}{f'; several {several}' if several else ''}{f' (default: {default})' if default else ''}",
    )


def add_ensemble_mean(parser: argparse.ArgumentParser) -> None:
    """`--ensemble-mean probabilities|log_probabilities`."""
    parser.add_argument(
        "--ensemble-mean",
        choices=("probabilities", "log_probabilities"),
        default="probabilities",
        help="of an ensemble: the mean of the checkpoints' probabilities or log_probabilities (default: probabilities)",
    )


def add_average(parser: argparse.ArgumentParser) -> None:
    """`--average bestN`."""
    parser.add_argument(
        "--average",
        metavar="bestN",
        help="such as best3: the mean weights of the 3 best checkpoints of the run, kept by trainer.keep_best=3",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device NAME`."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")


def add_backend(parser: argparse.ArgumentParser) -> None:
    """`--backend NAME`."""
    from captioner.runtime.backends import BACKENDS

    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="auto",
        help="torch, or onnx, which starts much faster (default: onnx where onnxruntime is installed, the model has "
        "ONNX files, and nothing else needs torch)",
    )


def add_json(parser: argparse.ArgumentParser, help: str) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help=help)


def add_data(parser: argparse.ArgumentParser, split: str = "val") -> None:
    """`--data NAME`, `--data-root DIR`, `--set KEY=VALUE` and `--split NAME`: which images a command reads.

    split: the default of --split.
    """
    parser.add_argument("--data", metavar="NAME", help="data set, as in train.py's data=NAME (default: the run's own)")
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data set (default: as in the run)")
    add_set(parser, "another setting of the data set, such as data.limit=100; may be repeated")
    parser.add_argument("--split", default=split, help=f"split of the data set: train, val or test (default: {split})")


def add_set(parser: argparse.ArgumentParser, help: str) -> None:
    """`--set KEY=VALUE`, which may be repeated."""
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=help)
