"""Help and mistakes are answered without importing torch, which takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import importlib, json, pkgutil, sys

sys.modules["torch"] = None  # importing it raises ImportError from here on
for name in ("schema", "registry", "errors", "files", "data.datasets.registry"):
    importlib.import_module(f"captioner.{name}")
for name in ("config", "text", "metrics", "runtime", "cli"):
    package = importlib.import_module(f"captioner.{name}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("_job"):  # the work of a command, which the command imports last
            importlib.import_module(module.name)
from captioner.__main__ import COMMANDS, main

cases = [(["--help"], 0), *([(name, "--help"), 0] for name in COMMANDS), *json.loads(sys.argv[1])]
for arguments, expected in cases:
    sys.argv = ["captioner", *arguments]
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    if code != expected:
        sys.exit(f"captioner {' '.join(arguments)} ended with {code} instead of {expected}")
"""
MISTAKES = (
    ["trian"],
    ["train", "model=atention"],
    ["train", "trainer.max_epoch=3"],
    ["train", "data=coco", "data.root=nowhere"],
    ["train", "device=gpu"],
    ["evaluate", "checkpoint=nowhere"],
    ["evaluate", "results=nowhere.json"],
    ["caption", "nowhere.jpg"],
    ["cache", "data=flickr8k", "data.root=nowhere"],
    ["data", "check", "data=foldr"],
    ["runs", "nowhere"],
    ["submission", "nowhere.json"],
    ["import", "model.pth"],
    ["import", "model.pth", "--from", "yunjei"],
)


def test_help_and_mistakes_do_not_import_torch(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    cases = json.dumps([(arguments, 2) for arguments in MISTAKES])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, cases], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == len(MISTAKES)
