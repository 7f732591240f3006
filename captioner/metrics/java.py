"""Find the Java programs of METEOR and SPICE; the error for a metric that is not available."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from captioner.errors import CaptionerError


class MetricUnavailable(CaptionerError):  # noqa: N818  (it is reported beside the other scores, not as a failure)
    """A metric that cannot be computed on this machine; the message says why and what to install."""


def find_java(metric: str) -> str:
    """The path of the `java` program. Raises MetricUnavailable, which names `metric`."""
    java = shutil.which("java")
    if java is None:
        raise MetricUnavailable(f"{metric} needs a Java runtime, but there is no `java` on the PATH. Install one.")
    return java


def find_in_pycocoevalcap(metric: str, name: str) -> Path:
    """A file of the installed pycocoevalcap, by its path in the package. Raises MetricUnavailable, naming `metric`."""
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    if spec is not None:
        raise MetricUnavailable(
            f"{metric} needs pycocoevalcap, which lacks {name}. "
            "Install the package again: pip install --force-reinstall --no-deps pycocoevalcap."
        )
    raise MetricUnavailable(
        f"{metric} needs pycocoevalcap, which is not installed. Install it: pip install 'captioner[meteor]'."
    )
