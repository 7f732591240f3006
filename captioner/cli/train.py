"""`python train.py`: compose and check the settings, train, evaluate; a sweep ends in one table.

Nothing here imports torch: `--help` and a mistake answer at once. `train_job` does the work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from captioner.cli.data_source import check_data_source
from captioner.cli.hydra_config import PRIMARY, register, run_hydra, settings_from_plain, task_of, training_settings
from captioner.cli.main import errors_as_exit_codes, explain
from captioner.cli.overrides import check_overrides
from captioner.cli.owner_lock import Role, owned
from captioner.cli.run_config import change_settings, read_settings, resumed_settings
from captioner.cli.runs_folder import CONFIG_FILE, RUNS_FOLDER, check_unused_folder, note_newest, remove_if_empty, shown
from captioner.cli.setting_suggestions import DRY_RUN, HYDRA_FLAGS, check_flags
from captioner.cli.settings_help import train_help
from captioner.cli.sweep import SweptSettings
from captioner.config import TASKS, LanguageModelConfig, TrainConfig
from captioner.distributed.device import check_device_name
from captioner.distributed.launch import LAUNCHED, join_launched_job
from captioner.distributed.ranks import first_value_in_job, is_main_process, rank_info
from captioner.errors import ConfigError, MisfitError, choose
from captioner.schema import to_plain

BEGUN = "run begun"  # key of the job's store; rank 0 stores the run folder there
_failed: list[Exception] = []
_finished: list[Path] = []  # the folders of this command's runs, for the table at a sweep's end
_swept = SweptSettings()


def main() -> None:
    """The entry point of train.py and of `python -m captioner train`."""
    with errors_as_exit_codes():
        _finished.clear()
        _failed.clear()
        _swept.runs.clear()
        rank = join_launched_job()
        register()
        if rank.world_size > 1 and {"-m", "--multirun"} & set(sys.argv):
            raise ConfigError(
                "A sweep (-m) is one run after the other, each in processes of its own: use python train.py -m … "
                "trainer.devices=N, without torchrun."
            )
        check_flags(sys.argv[1:], (*HYDRA_FLAGS, DRY_RUN))
        if {"-h", "--help"} & set(sys.argv):
            overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
            sys.stdout.write(train_help(overrides, chosen_task(overrides)))
            sys.exit(0)
        check_overrides(sys.argv[1:])
        dry = DRY_RUN in sys.argv
        sys.argv[1:] = [argument for argument in sys.argv[1:] if argument != DRY_RUN]
        # Hydra's parser takes -m before the settings only; people write it anywhere.
        sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
        try:
            primary = PRIMARY[chosen_task(sys.argv[1:])]
            run_hydra(_dry_job if dry else _job, primary, sys.argv[1:])
        except KeyboardInterrupt:
            if _failed:  # a run before has failed, which the code 0 of SIGTERM would hide
                raise _failed[0] from None
            raise
        finally:  # also when the sweep was stopped: what is finished deserves its table
            if len(_finished) > 1:
                from captioner.cli.tables import write_sweep_table

                sys.stdout.write(write_sweep_table(_finished))
        if _failed:
            raise _failed[0]
    sys.exit(0)


def chosen_task(arguments: Sequence[str]) -> str:
    """The task of `task=…`, else that of the run that is resumed, else captioning."""
    given = dict(argument.split("=", 1) for argument in arguments if argument.startswith(("task=", "resume=")))
    if "task" in given:
        return choose("task", given["task"], TASKS)
    run_folder = Path(given.get("resume", ""))
    return task_of(read_settings(run_folder)) if (run_folder / CONFIG_FILE).is_file() else TASKS[0]


@contextmanager
def _error_kept_for_the_end() -> Iterator[None]:
    """A context that keeps an error until the sweep's other runs have ended, and so that Hydra adds nothing to it."""
    try:
        yield
    except Exception as error:
        _failed.append(error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            sys.stderr.write(f"{' '.join(HydraConfig.get().overrides.task)}: {explain(error) or error}\n")
    except KeyboardInterrupt:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            sys.stderr.write("The sweep is stopped: no further run of it is started.\n")
        raise


def _job(composed: DictConfig) -> None:
    """One run: check the settings and the run folder, then train in it."""
    with _error_kept_for_the_end():
        hydra, rank = HydraConfig.get(), rank_info()
        folder = Path(hydra.runtime.output_dir)
        overrides = list(hydra.overrides.task)
        resuming = composed.resume is not None or begun_by_this_job(folder)
        try:
            if composed.resume is not None:
                config = resumed_settings(Path(composed.resume), overrides)
            else:
                config = initialized_settings(training_settings(composed), overrides)
            check_device_name(config.device)
            _check_not_repeated(config, overrides)
            if not isinstance(config, LanguageModelConfig):
                check_data_source(config.data)
            elif rank.world_size > 1:
                raise ConfigError("task=language_model trains in one process: start it without torchrun.")
            with owned(folder, shown(folder), role_in(config)) if is_main_process() else nullcontext():
                if not resuming and is_main_process():
                    check_unused_folder(folder, f"resume it with resume={shown(folder)}, or ")
                if is_main_process():
                    first_value_in_job(BEGUN, str(folder))

                from captioner.cli.train_job import print_result, train_in_folder

                with _resized_model_named(composed.resume, overrides):
                    result = train_in_folder(config, folder, overrides, resume=resuming)
        finally:
            if is_main_process():
                remove_if_empty(folder)
        _finished.append(folder)
        if result is not None and is_main_process() and not isinstance(config, LanguageModelConfig):
            note_newest(folder, RUNS_FOLDER)
        if result is not None and hydra.mode == RunMode.RUN and is_main_process():
            print_result(result)


def _check_not_repeated(config: TrainConfig | LanguageModelConfig, overrides: list[str]) -> None:
    """ConfigError for a run of a sweep whose settings are those of an earlier one."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        _swept.add(config, overrides, sys.argv[1:])


@contextmanager
def _resized_model_named(resume: str | None, overrides: Sequence[str]) -> Iterator[None]:
    """ConfigError where weights do not fit because the resumed run was given another size of its model."""
    try:
        yield
    except MisfitError as error:
        changed = [override for override in overrides if override.lstrip("+").startswith(("model.", "encoder."))]
        if resume is None or not changed:
            raise
        raise ConfigError(
            f"{' '.join(changed)} cannot go with resume=: the weights of {resume} do not fit such a model. Only "
            "values that change no shape can be changed, such as model.dropout=0.3."
        ) from error


def role_in(config: TrainConfig | LanguageModelConfig) -> Role:
    """What the main process does with the run folder: it trains there alone, or starts those that do, or is started."""
    if LAUNCHED in os.environ:
        return Role.WRITER
    launches = isinstance(config, TrainConfig) and rank_info().world_size == 1 and (config.trainer.devices or 1) > 1
    return Role.LAUNCHER if launches else Role.ALONE


def _dry_job(composed: DictConfig) -> None:
    """Print what one run would need and cost. Nothing is started, and nothing stays in the run folder."""
    with _error_kept_for_the_end():
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            if composed.resume is not None:
                raise ConfigError(f"{DRY_RUN} is for a run that has not begun: leave resume= out.")
            config = initialized_settings(training_settings(composed), list(HydraConfig.get().overrides.task))
            if isinstance(config, LanguageModelConfig):
                raise ConfigError(f"{DRY_RUN} knows captioners only: leave it out for task=language_model.")
            check_device_name(config.device)
            _check_not_repeated(config, list(HydraConfig.get().overrides.task))

            from captioner.training.dry_run.report import dry_run

            report, problems = dry_run(config, Path(shown(folder)))
        finally:
            remove_if_empty(folder)
        sys.stdout.write(report)
        if problems:
            raise ConfigError("This run would not start:\n" + "\n".join(f"- {problem}" for problem in problems))
        sys.stdout.write(f"Nothing stops this run. Start it without {DRY_RUN}.\n")


def initialized_settings(
    config: TrainConfig | LanguageModelConfig, overrides: Sequence[str]
) -> TrainConfig | LanguageModelConfig:
    """`config`; with `init_from`, the checkpoint's model, changed by the command line's `model.KEY=VALUE`.

    ConfigError for settings that the checkpoint decides, and for `init_from` together with a language model.
    """
    if isinstance(config, LanguageModelConfig) or config.init_from is None:
        return config
    from captioner.training.init_from import fixed_settings, with_settings_of_checkpoint

    if fixed := list(fixed_settings(list(overrides))):
        raise ConfigError(
            f"{fixed[0]} cannot go with init_from={config.init_from}: the checkpoint decides the model, the encoder, "
            "the tokenizer and the vocabulary. Only values such as model.dropout=0.3 and encoder.fine_tune_from can "
            "be changed."
        )
    values = to_plain(with_settings_of_checkpoint(config))
    change_settings(values, [override for override in overrides if override.startswith("model.")])
    return settings_from_plain(values)


def begun_by_this_job(folder: Path) -> bool:
    """Whether this job had begun the run in `folder` before torchrun restarted it; the same value on all ranks."""
    begun = first_value_in_job(BEGUN, "") == str(folder)  # "" where no process has given a value
    return first_value_in_job(f"resumes/{rank_info().attempt}", str(begun)) == str(True) and rank_info().attempt > 0
