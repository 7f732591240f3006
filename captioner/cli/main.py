"""Exit codes and messages of all commands: 0 when done, 2 and one message for a user's mistake, 130 after Ctrl-C.

SIGTERM ends a training that could be saved with 0, and everything else with 143. Where the reader of the output has
ended, as in `… --json | head -1`, the command ends silently, with 141.

Of several ranks of a job, only the first that fails prints a message. `CAPTIONER_DEBUG=1` shows the traceback instead.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from captioner.distributed.launch import LAUNCHED, LOST_RANK, JobFailedError
from captioner.distributed.ranks import may_report_error
from captioner.errors import CaptionerError, RankLostError, near_misses
from captioner.training.signals import Interrupted, Terminated, sigterm_raises


def run_command(command: Callable[[], int | None], settings: type | None = None) -> int:
    """Run `command` and print its error, if any; returns the exit code, which `command` may return itself.

    settings: those that can be given, such as `EvaluateConfig`, for suggestions; None: those of all commands.
    """
    try:
        with errors_as_exit_codes(settings):
            return command() or 0
    except SystemExit as ended:
        if isinstance(ended.code, int):
            return ended.code
        raise


@contextmanager
def errors_as_exit_codes(settings: type | None = None) -> Iterator[None]:
    """A context in which an exception becomes a message on stderr and SystemExit with the exit code for it."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise, so that the message is ours
    try:
        with sigterm_raises():
            yield
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if not isinstance(error, (KeyboardInterrupt, JobFailedError)) and os.environ.get("CAPTIONER_DEBUG") == "1":
            raise
        raise SystemExit(_report(error, settings)) from error


def _report(error: BaseException, settings: type | None) -> int:
    """Print what a user needs to know about an error; returns the exit code."""
    if isinstance(error, Interrupted):  # training has saved a checkpoint, and printed how to resume
        return 0 if error.signal_number == signal.SIGTERM else 130
    if isinstance(error, BrokenPipeError) and _has_no_reader():
        return 128 + signal.SIGPIPE
    if isinstance(error, Terminated):
        _print_error("\nStopped by SIGTERM. Features that were computed so far are kept in the cache.\n")
        return 128 + signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        _print_error("\nStopped. Features that were computed so far are kept in the cache.\n")
        return 130
    if isinstance(error, JobFailedError):  # the process that failed has printed its message, if it could
        _print_error(f"error: {error}\n" if str(error) else "")
        return error.code
    if LAUNCHED in os.environ and _is_lost_rank(error):
        return LOST_RANK  # the launcher reports which process ended, and how
    message = explain(error, settings)
    if message is None:
        _print_error(
            f"error: {type(error).__name__}: {error}\n"
            "This is a bug in captioner: run the command again with CAPTIONER_DEBUG=1 to see where it happened.\n"
        )
        return 1
    _print_error(f"error: {message}\n")
    return 2


def _has_no_reader() -> bool:
    """Whether standard output is a pipe that nobody reads. Then the rest is dropped: else Python reports it at exit."""
    if not hasattr(select, "poll"):  # on Windows, where such a pipe gives another error
        return False
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)  # POLLERR is always reported
    if not any(event & select.POLLERR for _, event in pipe.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _is_lost_rank(error: BaseException) -> bool:
    """Whether the only reason for this error is that another process of the job has ended."""
    return any(isinstance(cause, RankLostError) and cause.is_ended for cause in _chain(error))


def _print_error(text: str) -> None:
    """Write to stderr, unless another process of this job has reported an error already."""
    if text and may_report_error():
        sys.stderr.write(text)


def explain(error: BaseException, settings: type | None = None) -> str | None:
    """The message for a user's mistake or a failing machine; None for a bug in captioner."""
    for cause in _chain(error):
        if isinstance(cause, CaptionerError):
            return str(cause)
    if _comes_from(error, "hydra", "omegaconf", "antlr4"):
        return _explain_hydra(error, settings)
    if any(isinstance(cause, RuntimeError) and str(cause).startswith("DataLoader worker") for cause in _chain(error)):
        return (
            "A process that loads data was killed, by the system if memory ran out. Start fewer of them, with a "
            "smaller data.num_workers, and run the command again; resume= continues a training."
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}."
    if any(map(_is_out_of_memory, _chain(error))):  # training has a longer message
        return (
            "Memory ran out. Caption fewer images at a time (batch_size=8 for evaluate.py) or use a narrower beam "
            "(decode.beam_width). The batch size does not change the captions."
        )
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:  # no torch code can have failed, and importing torch takes seconds
        return isinstance(error, MemoryError)
    from captioner.training.out_of_memory import is_out_of_memory

    return is_out_of_memory(error)


def _comes_from(error: BaseException, *packages: str) -> bool:
    """Whether the exception's type is from one of these packages, or it was raised inside one of them."""
    places, trace = [type(error).__module__], error.__traceback__
    while trace is not None:
        if trace.tb_next is None:
            places.append(str(trace.tb_frame.f_globals.get("__name__")))
        trace = trace.tb_next
    return any(place.split(".")[0] in packages for place in places)


def _chain(error: BaseException | None) -> list[BaseException]:
    """The exception and its causes, the last one first."""
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _explain_hydra(error: BaseException, settings: type | None) -> str:
    """A short message with near misses, made from one of Hydra's or OmegaConf's."""
    from hydra.errors import OverrideParseException  # here: most commands do not need Hydra, and start faster

    from captioner.cli.choices import why_missing
    from captioner.cli.setting_suggestions import unknown_setting

    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    if not type(error).__module__.startswith(("hydra", "omegaconf", "antlr4")):  # an internal error of Hydra
        return f"These settings cannot be combined ({first_line}): expected KEY=VALUE and GROUP=CHOICE."
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read: expected KEY=VALUE, quoted where the shell needs it."
    if match := re.search(r"Could not (?:find|load) '(.+)/(.+)'", first_line):
        group, choice = match.groups()
        if message := why_missing(group, choice):
            return message
        options = [line.strip() for line in str(error).splitlines() if line.startswith("\t")]
        choices = [option for option in options if "=" not in option and not option.endswith("_schema")]
        return f"{group}={choice} does not exist.{near_misses(choice, choices)} Choose one of: {', '.join(choices)}."
    if match := re.search(r"In '(.+)/(.+)': ConfigKeyError", first_line):
        group, choice = match.groups()
        return (
            f"{group}={choice} does not fit the chosen model, which has no setting model.{group}. "
            f"Choose another model=…, or leave {group}=… out."
        )
    if match := re.search(r"Could not override '([^']+)'", first_line):
        return unknown_setting(match[1], settings)
    if match := re.search(r"Error merging override (.+)", first_line):
        return f"{match[1].strip()} has the wrong type: {str(error.__cause__).splitlines()[0]}."
    return first_line
