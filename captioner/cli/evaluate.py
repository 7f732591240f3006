"""`python evaluate.py`: caption a split with a checkpoint and score it, or score captions from a file.

Nothing here imports torch: `--help` and a mistake answer at once. `evaluate_job` does the work.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from captioner.checkpoint.best import find_best
from captioner.checkpoint.index import find_checkpoint
from captioner.cli.data_source import check_data_source, given_data
from captioner.cli.hydra_config import evaluate_settings, register, run_hydra
from captioner.cli.main import run_command
from captioner.cli.overrides import check_overrides, is_given
from captioner.cli.runs_folder import check_unused_folder, remove_if_empty
from captioner.cli.setting_suggestions import HYDRA_FLAGS, check_flags
from captioner.cli.settings_help import evaluate_help
from captioner.config import ENSEMBLE_MEANS, HARD_AT_TEST, DataConfig, EvaluateConfig
from captioner.distributed.device import check_device_name
from captioner.distributed.launch import join_launched_job
from captioner.distributed.ranks import is_main_process
from captioner.errors import ConfigError, DataError, choose, near_misses
from captioner.evaluation.submission import submission_file_name

_errors: list[Exception] = []

SUBSETS = ("results",)
"""What `subset` may name: the file whose images are scored."""


def main() -> None:
    """The entry point of evaluate.py and of `python -m captioner evaluate`."""
    sys.exit(run_command(_main, EvaluateConfig))


def _main() -> None:
    _errors.clear()
    join_launched_job()
    register()
    check_flags(sys.argv[1:], HYDRA_FLAGS, {"--compare": "results=a.json compare=b.json"}, EvaluateConfig)
    if {"-h", "--help"} & set(sys.argv):
        sys.stdout.write(evaluate_help([argument for argument in sys.argv[1:] if not argument.startswith("-")]))
        return
    check_overrides(sys.argv[1:])
    run_hydra(_job, "evaluate", sys.argv[1:])
    if _errors:
        raise _errors[0]


def _job(composed: DictConfig) -> None:
    """Check the settings, then score. An error is kept and raised outside, so that Hydra adds nothing to it."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        if is_main_process():
            check_unused_folder(folder, "")
        config = evaluate_settings(composed)
        overrides = list(HydraConfig.get().overrides.task)
        _check_sources(config, overrides)
        config = replace(config, data=_data(config, overrides))
        _check_files(config)

        if config.results is not None:
            from captioner.cli.score_job import score_in_folder

            score_in_folder(config, overrides, folder)
        else:
            from captioner.cli.evaluate_job import evaluate_in_folder

            evaluate_in_folder(config, overrides, folder)
    except Exception as error:
        _errors.append(error)
    finally:  # also after a Ctrl-C
        if is_main_process():
            remove_if_empty(folder)


def _data(config: EvaluateConfig, overrides: list[str]) -> DataConfig:
    """The data set that is named, else that of the run that made the checkpoint or the captions."""
    if config.checkpoint is None:
        results = Path(str(config.results))
        return given_data(config.data, overrides, results.parent, str(results)) or config.data
    data = given_data(config.data, overrides, find_checkpoint(Path(config.checkpoint)).parent.parent, config.checkpoint)
    if data is None:
        raise ConfigError(
            f"Give data=NAME data.root=DIR: {config.checkpoint} is in no run folder that names a data set."
        )
    return data


def _check_sources(config: EvaluateConfig, overrides: list[str]) -> None:
    """ConfigError unless it is clear where the captions and the references come from."""
    if (config.checkpoint is None) == (config.results is None):
        raise ConfigError(
            "Give either checkpoint=runs/… (a model captions the split) or results=captions.json "
            "(captions that are there already are scored)."
        )
    if config.subset is not None:
        choose("subset", config.subset, SUBSETS)
    if config.results is not None and config.devices is not None:
        raise ConfigError(
            f"devices={config.devices} needs checkpoint=runs/…: a file of captions is scored by one process."
        )
    if config.results is None:
        for setting in ("compare", "references", "subset"):
            if getattr(config, setting) is not None:
                raise ConfigError(f"{setting}={getattr(config, setting)} needs results=a.json, a file of captions.")
        if config.submission is not None:
            submission_file_name("", "", config.submission)  # checks the name
        return
    if config.submission is not None:
        raise ConfigError("submission=… needs checkpoint=runs/…; `captioner submission FILE` checks and packs a file.")
    for setting in ("baselines", "ensemble"):
        if getattr(config, setting):
            raise ConfigError(f"{setting}=[…] need checkpoint=runs/…: a file of captions has no model.")
    if config.captions_per_image > 1:
        raise ConfigError(
            f"captions_per_image={config.captions_per_image} needs checkpoint=runs/…: a file has one caption per image."
        )
    if config.average is not None:
        raise ConfigError(f"average={config.average} needs checkpoint=runs/…: a file of captions has no weights.")
    if config.metric.grounding is not None:
        raise ConfigError("metric.grounding needs checkpoint=runs/…: a file of captions has no attention weights.")
    if config.references is not None and is_given("data", overrides):
        raise ConfigError("Give either references=FILE or data=…, not both: which captions are the references?")
    if config.references is not None and config.report:
        raise ConfigError("report=true shows the images: give data=… data.root=DIR instead of references=FILE.")


def _check_files(config: EvaluateConfig) -> None:
    """CheckpointError or DataError for a checkpoint, a file of captions or a data set that is not there."""
    check_device_name(config.device)
    if config.hard_at_test is not None:
        choose("hard_at_test", config.hard_at_test, HARD_AT_TEST)
    choose("ensemble_mean", config.ensemble_mean, ENSEMBLE_MEANS)
    if config.ensemble_mean != EvaluateConfig.ensemble_mean and not config.ensemble:
        raise ConfigError(f"ensemble_mean={config.ensemble_mean} has no effect without ensemble=[runs/…], the members.")
    if config.checkpoint is not None:
        for path in (*config.ensemble, *config.baselines):
            find_checkpoint(Path(path))
        if config.average is not None:
            for path in (config.checkpoint, *config.ensemble):
                find_best(Path(path), config.average)
    for setting in ("results", "compare", "references"):
        _check_file(setting, getattr(config, setting))
    references = config.references
    for file in (config.results, config.compare):
        if references is not None and file is not None and Path(file).samefile(references):
            raise ConfigError(f"{file} is given as captions and as references: scored against itself all is right.")
    if references is None:
        check_data_source(config.data)


def _check_file(setting: str, file: str | None) -> None:
    """DataError where a file of captions is given that is not there."""
    if file is None or Path(file).is_file():
        return
    kind = "reference captions" if setting == "references" else "captions (COCO results JSON)"
    if Path(file).is_dir():
        found = sorted(path.name for path in Path(file).glob("captions_*.json"))
        inside = f": give {setting}={Path(file) / found[0]}" if found else ""
        raise DataError(f"{setting}={file} is a folder, and a file of {kind} is expected{inside}.")
    near = near_misses(Path(file).name, (path.name for path in Path(file).parent.glob("*.json*")))
    raise DataError(f"{setting}={file} does not exist: expected a file of {kind}.{near}")
