"""`--help` of the commands that take KEY=VALUE: examples, the choices of each group, and every setting in a phrase.

All of it comes from the dataclasses, the registries and conf/; the values shown are those that the command line makes.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from captioner.cli.choices import CONF, choices
from captioner.cli.hydra_config import (
    compose_evaluate_settings,
    compose_language_model_settings,
    compose_train_settings,
)
from captioner.cli.overrides import as_argument, flat_settings
from captioner.config import EvaluateConfig, LanguageModelConfig, TrainConfig
from captioner.config.explain import Setting, all_settings
from captioner.schema import to_plain

TRAIN = """\
Train a captioner, score it on the validation split, and write everything to a run folder.

  python train.py                                            an LSTM on the bundled synthetic data set
  python train.py model=attention data=flickr8k data.root=DIR
  python train.py model=attention data=coco data.root=DIR
  python train.py trainer.max_epochs=20 optim.learning_rate=0.0005
  python train.py -m model=rnn,lstm,gru,attention            a sweep: one table at the end
  python train.py trainer.devices=4                          four processes (torchrun works as well)
  python train.py resume=runs/…                              resume a run where it stopped
  python train.py task=language_model data.text=FILE         a language model (add --help for its settings)
  python train.py model=attention --help                     the settings of this model
  python train.py --cfg job                                  print all settings and stop
  python train.py experiment=coco data.root=DIR --dry-run    check everything; print hours, disk, memory, expected score
"""
LANGUAGE_MODEL = """\
Train a language model on a text, measure it on the end of the text, and write everything to a run folder.

  python train.py task=language_model                                 an LSTM on a generated text
  python train.py task=language_model data.text=FILE cell=gru model.layers=2
  python train.py task=language_model data.text=FILE data.level=words data.min_count=3
  python train.py task=language_model -m cell=rnn,lstm,gru            a sweep: one table at the end
  python train.py resume=runs/…                                       resume a run where it stopped
  python -m captioner sample --checkpoint runs/… --prompt "…"         generate text
"""
EVALUATE = """\
Caption every image of a split with a trained model and score the captions; or score captions from a file.

  python evaluate.py checkpoint=runs/… split=test
  python evaluate.py checkpoint=runs/… data=coco data.root=DIR split=val decode.beam_width=5
  python evaluate.py checkpoint=runs/… devices=4             four processes caption (torchrun works as well)
  python evaluate.py checkpoint=runs/a baselines=[runs/b] report=true   one HTML page that compares both
  python evaluate.py results=captions.json references=annotations/captions_val2014.json      no image is needed
  python evaluate.py results=captions.json data=coco data.root=DIR split=val
  python evaluate.py results=a.json compare=b.json data=coco data.root=DIR split=val
  python evaluate.py checkpoint=runs/… data=coco data.root=DIR split=test submission=NAME    for a test server

Settings of data and decode default to those of the checkpoint's run.
"""


def train_help(overrides: Sequence[str], task: str) -> str:
    """The help of train.py for these settings and this task."""
    if task == "language_model":
        return _help(LANGUAGE_MODEL, compose_language_model_settings(overrides), ["cell", "optim"])
    return _help(TRAIN, compose_train_settings(overrides), [])


def evaluate_help(overrides: Sequence[str]) -> str:
    """The help of evaluate.py for these settings."""
    groups = ["data", "tokenizer", "cache", "decode", "metric", "meteor"]
    return _help(EVALUATE, compose_evaluate_settings(overrides), groups)


def _help(introduction: str, config: TrainConfig | LanguageModelConfig | EvaluateConfig, groups: Sequence[str]) -> str:
    width = min(120, max(80, shutil.get_terminal_size((100, 24)).columns))
    wrapped = [_wrapped(line, width) for line in choices(*groups).splitlines()]
    return "\n".join(
        [
            introduction,
            "Choices, as GROUP=CHOICE:\n",
            *wrapped,
            *_metric_names(config, width),
            "\nSettings, as KEY=VALUE, with their values for the choices made:",
            *_settings(config, width),
            "",
        ]
    )


def _metric_names(config: TrainConfig | LanguageModelConfig | EvaluateConfig, width: int) -> list[str]:
    """The metrics of captioner and of installed packages; a language model has none."""
    if isinstance(config, LanguageModelConfig):
        return []
    from captioner.metrics.registry import METRICS  # here: it takes a fifth of a second

    return ["\nMetrics, for metric.names=[…]:\n", _wrapped(", ".join(METRICS), width)]


def _wrapped(line: str, width: int) -> str:
    return textwrap.fill(line.strip(), width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)


def _settings(config: TrainConfig | LanguageModelConfig | EvaluateConfig, width: int) -> list[str]:
    """One line per setting, or more where its explanation is long, under a heading per group."""
    values = flat_settings(to_plain(config))
    names = {values.get("model.name"), values.get("data.name"), ""}
    settings = [s for s in all_settings(type(config)) if s.name in values and s.only_for in names]
    grouped = [s for s in settings if s.group] + [s for s in settings if not s.group]
    column = 2 + max(len(_assignment(s, values[s.name])) for s in grouped if len(_assignment(s, values[s.name])) < 40)
    lines, heading = [], None
    for setting in grouped:
        if setting.group != heading:
            heading = setting.group
            lines.append(f"\n{_heading(heading)}")
        assignment = _assignment(setting, values[setting.name])
        lines.append(
            textwrap.fill(
                setting.explanation,
                width,
                initial_indent=f"  {assignment:<{column}}" if len(assignment) < column else f"  {assignment}  ",
                subsequent_indent=" " * (column + 2),
                break_on_hyphens=False,
            )
        )
    return lines


def _assignment(setting: Setting, value: object) -> str:
    return f"{setting.name}={as_argument(value)}"


def _heading(group: str) -> str:
    if not group:
        return "general"
    return f"{group} ({group}=… chooses a file of conf/{group}/)" if (CONF / group).is_dir() else group
