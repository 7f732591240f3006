"""The files around the code agree with it: README, CHANGELOG, environment.yml, Makefile, CI, citation."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from captioner import __version__
from captioner.__main__ import COMMANDS, MODULES
from captioner.cli.hydra_config import compose_train_settings
from captioner.config import AttentionConfig, TrainConfig
from captioner.config.explain import setting_exists
from captioner.config.renamed import RENAMED, RenamedSetting

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def pyproject() -> dict[str, object]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML by itself")
    project: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def test_environment_yml_asks_for_the_same_packages() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    project = pyproject()
    assert [entry for entry in pip if not entry.startswith("-e")] == project["dependencies"]
    assert f"python{project['requires-python']}" in environment["dependencies"]


def commands(*words: str) -> list[list[str]]:
    """The arguments of each shell command of the README that starts with `words`, split as a shell would."""
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", README, flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    found = [line[len(words) :] for line in lines if tuple(line[: len(words)]) == words]
    assert found, f"the README has no command {' '.join(words)}"
    return found


def test_readme_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [target for target, *_ in commands("make")]
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_readme_training_commands_compose() -> None:
    for options in commands("python", "train.py"):
        settings = [option for option in options if option != "-m" and not option.startswith("resume=")]
        compose_train_settings([option.split(",")[0] if "-m" in options else option for option in settings])


def test_readme_evaluation_settings_exist() -> None:
    """The commands themselves need checkpoints and data."""
    for options in commands("python", "evaluate.py"):
        settings = [option.split("=")[0] for option in options if "=" in option]
        assert [name for name in settings if not setting_exists(name)] == []


def test_readme_commands_exist() -> None:
    """Those with --flags are also parsed."""
    for command, *options in [*commands("python", "-m", "captioner"), *commands("python", "caption.py")]:
        name, flags = (command, options) if command in COMMANDS else ("caption", [command, *options])
        module = importlib.import_module(f"captioner.cli.{MODULES.get(name, name)}")
        if hasattr(module, "_parser"):
            module._parser().parse_args(flags)


def test_readme_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    shutil.copy(ROOT / "docs/pretrained/photographer.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(example, namespace)
    assert namespace["caption"].text
    assert len(namespace["caption"].alternatives) == 2
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_readme_names_files_that_exist() -> None:
    named = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(
        r"`((?:captioner|docs|conf|notebooks|benchmarks)/[^`*…]+)`", README
    )
    assert named
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.skipif(sys.platform != "linux", reason="CI runs on Linux")
def test_ci_script_runs_what_the_makefile_offers() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\S+)", (ROOT / ".ci/run").read_text(), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("failing", ["", "mypy", "lint-imports", "python"])
def test_make_test_says_what_fails_and_runs_the_rest(tmp_path: Path, failing: str) -> None:
    """The tools are stand-ins that print their name; the one that fails ends with 1."""
    (tmp_path / "bin").mkdir()
    for tool in ("python", "mypy", "lint-imports", "ruff"):
        stand_in = tmp_path / "bin" / tool
        stand_in.write_text(f"#!/bin/sh\necho {tool} has run\nexit {int(tool == failing)}\n")
        stand_in.chmod(0o755)
    (tmp_path / ".ready").touch()
    command = ["make", "test", f"VENV={tmp_path}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == (failing == ""), result.stderr
    for tool in ("python", "mypy", "lint-imports", "ruff"):
        assert f"{tool} has run" in result.stdout
    for tool, name in {"mypy": "mypy", "lint-imports": "import-linter"}.items():
        assert (f"*** {name} has failed" in result.stderr) == (tool == failing)


def test_changelog_lists_every_renamed_setting() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for entry in RENAMED:
        if isinstance(entry, RenamedSetting):
            old, new = f"`{entry.old}`", [entry.new]
        else:
            old, new = f"`{entry.setting}={entry.value}`", [f"{name}={value}" for name, value in entry.new]
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {old}")]
        assert all(name in row.split("|")[2] for name in new), row


def test_file_names_are_unique() -> None:
    """A file's name says what is inside. A setting, its command and its implementation may share one."""
    paths = [
        path.relative_to(ROOT / "captioner")
        for path in (ROOT / "captioner").rglob("*.py")
        if path.stem not in ("__init__", "registry", "types")
    ]
    counts = Counter(path.name for path in paths if path.parts[0] not in ("config", "cli"))
    assert [name for name, count in counts.items() if count > 1] == []


def test_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == "MIT"


def test_github_workflow_runs_the_ci_script() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["ci"]["steps"]
    assert "bash .ci/run" in [step.get("run") for step in steps]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step)


@pytest.mark.parametrize("name", ["bug", "proposal"])
def test_issue_templates_have_named_fields(name: str) -> None:
    template = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{name}.yml").read_text(encoding="utf-8"))
    assert template["name"]
    assert template["description"]
    assert all(field["id"] for field in template["body"])


def test_training_md_explains_every_setting_of_training_and_no_other() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    config = TrainConfig(model=AttentionConfig())
    groups = {
        group: {field.name for field in fields(getattr(config, group))} for group in ("trainer", "optim", "encoder")
    }
    named = set(re.findall(r"\b(trainer|optim|encoder)\.(\w+)", text))
    assert {(group, name) for group, name in named if name not in groups[group]} == set()
    for group in ("trainer", "optim"):
        assert groups[group] - {name for own, name in named if own == group} == set(), group
