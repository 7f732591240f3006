"""What surrounds the code says what the code does: environment.yml, the README, the Makefile, CI."""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from captioner import __version__
from captioner.cli.hydra_config import compose_language_model_settings, compose_train_settings
from captioner.config import AttentionConfig, TrainConfig
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


def commands() -> list[list[str]]:
    """Every shell command of the README, split as a shell would."""
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line]


def test_readme_s_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [words[1] for words in commands() if words[0] == "make"]
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_readme_s_training_commands_compose() -> None:
    trained = [words[2:] for words in commands() if words[:2] == ["python", "train.py"]]
    assert trained
    for options in trained:
        settings = [option for option in options if option != "-m" and not option.startswith(("resume=", "hydra."))]
        single = [option.split(",")[0] if "-m" in options else option for option in settings]
        compose = compose_language_model_settings if "task=language_model" in single else compose_train_settings
        compose(single)


def test_readme_names_files_that_are_there() -> None:
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
