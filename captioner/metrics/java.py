"""Where the Java programs are that METEOR and SPICE consist of, and the one error for a metric that cannot be had."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from captioner.errors import CaptionerError


class MetricUnavailable(CaptionerError):  # noqa: N818  (it is reported beside the other figures, not as a failure)
    """A metric that cannot be computed on this machine; the message says why and what would help."""


def find_java(metric: str) -> str:
    """The `java` program."""
    java = shutil.which("java")
    if java is None:
        raise MetricUnavailable(f"{metric} needs a Java runtime, and there is no `java` on the PATH. Install one.")
    return java


def find_in_pycocoevalcap(metric: str, name: str) -> Path:
    """A file of the installed pycocoevalcap, by its path inside the package."""
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    what = "is not installed" if spec is None else f"lacks {name}"
    raise MetricUnavailable(f"{metric} needs pycocoevalcap, which {what}. Install it: pip install 'captioner[java]'.")
