"""Run the fast tests with other versions of Python and of the dependencies: `make test-next`, `make test-oldest`.

next: the newest Python on this machine, the newest releases, and pre-releases of Hydra and OmegaConf.
oldest: the oldest supported Python on this machine, and the lower bounds of pyproject.toml.

Each has a virtual environment of its own, .venv-next or .venv-oldest, updated in place. Further arguments go to
pytest. PYTHON_NEXT or PYTHON_OLDEST names another interpreter. pip's own settings (PIP_CONSTRAINT and so on) apply.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10; mypy installs tomli there
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PRERELEASES = ["hydra-core>=1.3.2.dev0", "omegaconf>=2.3.0.dev0"]  # a bound with "dev" makes pip consider pre-releases
FOR_DEVELOPMENT = ("dev", "docs", "notebook")  # extras that are installed in their newest version
SHOWN = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "pillow", "safetensors", "matplotlib", "jaxtyping")


def main() -> int:
    which, *pytest_arguments = sys.argv[1:]
    if which not in ("next", "oldest"):
        sys.exit("usage: test_versions.py next|oldest [pytest arguments]")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = ROOT / f".venv-{which}"
    python = folder / "bin" / "python"
    if not python.exists():
        run(find_python(which, project["requires-python"]), "-m", "venv", folder)
        run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip")
    wanted = [f"{ROOT}[dev]", *(PRERELEASES if which == "next" else lower_bounds(project))]
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", "--editable", *wanted)
    report(python)
    arguments = pytest_arguments or ["-m", "not slow and not notebook", "-n", "auto", "--dist", "worksteal"]
    if which == "oldest":  # old packages call what newer packages under them have deprecated
        arguments += ["-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning"]
    return subprocess.run([python, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


def lower_bounds(project: dict) -> list[str]:
    """ "name==X" for each "name>=X" that a user's installation has; development tools keep their newest version."""
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    wanted += [entry for extra in extras if extra not in FOR_DEVELOPMENT for entry in extras[extra]]
    return [re.sub(r"^([\w.-]+)>=([\w.]+).*", r"\1==\2", entry) for entry in wanted]


def find_python(which: str, supported: str) -> str:
    """The newest or oldest interpreter found, of those that pyproject.toml supports."""
    if chosen := os.environ.get(f"PYTHON_{which.upper()}"):
        return chosen
    oldest = int(re.sub(r"^>=3\.", "", supported))
    names = [f"python3.{minor}" for minor in range(oldest, 30)]
    paths = [str(path) for path in sorted((Path.home() / ".pyenv/versions").glob("*/bin/python"))]
    found: dict[tuple[int, ...], str] = {}
    for candidate in [*names, *paths]:
        try:
            ask = [candidate, "-c", "import sys; print(*sys.version_info[:3])"]
            done = subprocess.run(ask, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue  # not installed, or a pyenv shim of a version that is not active
        version = tuple(map(int, done.stdout.split()))
        if version >= (3, oldest):
            found.setdefault(version, candidate)
    return found[max(found) if which == "next" else min(found)]


def report(python: Path) -> None:
    """Print the versions under test."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    versions = {entry["name"].lower(): entry["version"] for entry in json.loads(listed.stdout)}
    ask = "import sys; print('Python', *sys.version.split()[:1])"
    run(python, "-c", ask)
    print(", ".join(f"{name} {versions.get(name, '-')}" for name in SHOWN), flush=True)


def run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
