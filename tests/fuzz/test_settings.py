"""Settings from the command line and from a run's config.yaml: one message, or settings of the right types."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from captioner.cli.hydra_config import compose_train_settings
from captioner.cli.main import explain
from captioner.cli.run_config import resumed_settings
from captioner.config import AttentionConfig, TrainConfig
from captioner.schema import to_plain
from tests.fuzz.harness import CANARY, HarmError, fuzz, harmless, note_refusal, replaced, shares
from tests.fuzz.mutations import NASTY, mutated_bytes, mutated_value

PLAIN = to_plain(TrainConfig(model=AttentionConfig()))
KEYS = [f"{group}.{key}" for group, values in PLAIN.items() if isinstance(values, dict) for key in values]
GROUPS = ["model", "data", "encoder", "optim", "decode", "trainer", "task", "seed", "device"]
ODD_KEYS = ["", "trainer", "trainer.", ".a", "a.b.c.d", "model._target_", "_target_", "é", "trainer.max_epoch", "a=b"]
VALUES = st.one_of(
    st.sampled_from(["1", "-1", "0", "1e400", "nan", "null", "true", "[1,2", "[]", "{a:1}", "{a:1", "''", '"', "'"]),
    st.sampled_from(["lstm", "a,b", "range(1,3)", "choice(1,2)", "glob(*)", "int(a)", "str([1])", "=", " ", "@"]),
    st.sampled_from(["${oc.env:HOME}", "${seed}", "${", "$", "${now:", "${run_folder:a}", "\\", "\\,", "犬", "\t"]),
    st.sampled_from(NASTY).map(str).filter(lambda text: "\ud800" not in text and "\0" not in text),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)
OVERRIDES = st.lists(
    st.builds(
        "{}{}={}".format,
        st.sampled_from(["", "", "", "", "+", "++", "~", "-", "+trainer."]),
        st.sampled_from(KEYS) | st.sampled_from(GROUPS) | st.sampled_from(ODD_KEYS),
        VALUES,
    ),
    min_size=1,
    max_size=3,
)
BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(12))])
ATTACKS = [
    f"model: !!python/object/apply:os.system ['touch {CANARY}']\n",
    f"model: !!python/object/apply:pathlib.Path.touch ['{CANARY}']\n",
    "model:\n  _target_: os.system\n",
    "seed: ${oc.env:HOME}\n",
    "seed: ${oc.create:{a:1}}\n",
    "seed: ${seed}\n",
    BOMB,
    "- 1\n- 2\n",
    "text",
    "",
    "---\na: 1\n---\nb: 2\n",
    "a: [" * 2000,
    "? {a: 1}\n: 2\n",
    "{[1]: 2}\n",
    "seed: 2024-01-01\n",
    "seed: !!binary aGk=\n",
    "seed: !!set {a}\n",
    "seed: !!bool x\n",
    "seed: !!timestamp x\n",
    "seed: 1e3\n",
    "<<: 3\n",
    "\t",
    "a: 'b",
    "seed: " + "9" * 6000,
]


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Check that every error of the block has a message for the command line."""
    try:
        with harmless(folder):
            yield
    except Exception as error:
        message = None if isinstance(error, HarmError) else explain(error)
        if not message:
            raise
        note_refusal(message)


def check_storable(config: Any) -> None:
    """Check that accepted settings can be stored and read again."""
    yaml.safe_load(yaml.safe_dump(to_plain(config)))


@shares(6, 60)
def test_command_line(cases: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def check(overrides: list[str]) -> None:
        with explained(tmp_path):
            check_storable(compose_train_settings(overrides))

    fuzz(cases, OVERRIDES, check)


@shares(60, 300)
def test_resumed_settings(cases: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run" / "config.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(PLAIN))
    values = mutated_value(PLAIN).map(lambda value: yaml.safe_dump(value, allow_unicode=False).encode())
    files = values | values | mutated_bytes(path.read_bytes()) | st.sampled_from([text.encode() for text in ATTACKS])
    unchanged = st.just(path.read_bytes())

    def check(case: tuple[bytes, list[str]]) -> None:
        content, overrides = case
        with replaced(path, content), explained(tmp_path):
            check_storable(resumed_settings(Path("run"), ["resume=run", *overrides]))

    fuzz(cases, st.tuples(files, st.just([])) | st.tuples(unchanged, OVERRIDES), check)
