"""Which setting was meant: for a name that does not exist, and for a `--flag` where KEY=VALUE is expected."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from captioner.cli.choices import choices_with, group_choices
from captioner.config.explain import COMMANDS, setting_names
from captioner.errors import ConfigError, near_misses

OUTPUT = "hydra.run.dir"  # Hydra's, and so no setting of a command

# fmt: off
ABBREVIATIONS = {
    "trainer.max_epochs": ("epochs", "epoch", "max_epoch", "num_epochs", "n_epochs"),
    "trainer.max_steps": ("steps", "iterations", "iters", "max_iters"),
    "trainer.batch_size": ("batch_size", "batch", "bs", "batchsize"),
    "trainer.gradient_accumulation_steps": ("accumulate", "grad_accum", "accumulation", "accumulate_grad_batches"),
    "trainer.devices": ("devices", "gpus", "num_gpus", "n_gpus", "nproc_per_node"),
    "trainer.precision": ("amp", "fp16", "bf16", "mixed_precision"),
    "trainer.patience": ("early_stopping", "early_stop"),
    "trainer.label_smoothing": ("label_smooth", "smoothing"),
    "optim.learning_rate": ("lr", "learning_rate", "rate"),
    "optim.encoder_learning_rate": ("encoder_lr", "backbone_lr"),
    "optim.weight_decay": ("wd", "decay"),
    "optim.schedule": ("scheduler", "lr_scheduler", "lr_schedule"),
    "optim.warmup_steps": ("warmup",),
    "optim.clip_norm": ("clip", "grad_clip", "clip_grad", "gradient_clip_val", "max_grad_norm"),
    "optim.betas": ("momentum",),
    "optim": ("optimizer", "opt"),
    "model": ("decoder", "arch", "architecture"),
    "model.hidden_dim": ("hidden", "hidden_size", "decoder_dim", "rnn_size"),
    "model.embedding_dim": ("embed", "embed_dim", "embed_size", "emb_dim", "embedding_size"),
    "model.layers": ("num_layers", "n_layers"),
    "encoder": ("backbone", "cnn"),
    "encoder.fine_tune_from": ("fine_tune", "finetune", "unfreeze"),
    "encoder.image_size": ("img_size", "image_size", "resolution"),
    "data": ("dataset",),
    "data.root": ("data_dir", "data_path", "data_root", "image_dir"),
    "data.num_workers": ("workers",),
    "vocabulary.min_count": ("min_freq", "min_word_freq", "vocab_threshold", "word_count_threshold"),
    "vocabulary.max_size": ("vocab_size", "vocabulary_size"),
    "decode.beam_width": ("beam", "beams", "beam_size", "num_beams"),
    "decode.max_length": ("max_len", "max_length"),
    "metric.names": ("metrics",),
    "resume": ("ckpt", "resume_from", "load_from"),
    OUTPUT: ("out", "output", "out_dir", "output_dir", "save_dir", "log_dir", "run_dir"),
}
"""Setting → what papers and other training scripts call it."""
# fmt: on

_MEANT = {name: setting for setting, names in ABBREVIATIONS.items() for name in names}


def meant_settings(name: str, most: int = 3, command: type | None = None) -> list[str]:
    """The settings that `name` may stand for, the likeliest first; none where nothing is near.

    command: the type of the settings that can be given, such as `EvaluateConfig`; None: those of all commands.
    """
    plain = name.lower().replace("-", "_")
    last = plain.rpartition(".")[2]
    commands = COMMANDS if command is None else (command,)
    settings = list(dict.fromkeys(setting for one in commands for setting in setting_names(one)))
    if plain in _MEANT:
        usual = _MEANT[plain]
        own = [one for one in (usual, usual.rpartition(".")[2]) if one in settings]
        return [usual] if usual == OUTPUT or command is None else own[:1]
    same_end = [setting for setting in settings if "." in setting and setting.rpartition(".")[2] == last]
    near = difflib.get_close_matches(plain, settings, n=most, cutoff=0.6)
    ends = {setting.rpartition(".")[2] for setting in settings}
    near_ends = difflib.get_close_matches(last, ends, n=1, cutoff=0.8)
    near += [setting for setting in settings if setting.rpartition(".")[2] in near_ends]
    by_end = meant_settings(last, command=command) if last in _MEANT else []
    general = [last] if last in settings and last != plain else []  # trainer.device: device, which is in no group
    return list(dict.fromkeys([*general, *by_end, *same_end, *near]))[:most]


def unknown_setting(key: str, command: type | None = None) -> str:
    """The message for a setting that does not exist, or does not exist in this command; see `meant_settings`."""
    settings = dict.fromkeys(setting for one in COMMANDS for setting in setting_names(one))
    if key in settings:  # of another command or task, or a group where one of its settings was expected
        group = key.partition(".")[0]
        if (having := choices_with(key)) and having != group_choices(group):
            return f"{key} is no setting of the chosen {group}. It is one of {group}={', '.join(having)}."
        others = (
            meant_settings(key, command=command)
            if key in _MEANT
            else [name for name in settings if name.startswith(f"{key}.")]
        )
        hint = f", but {others[0]}=… can" if others else ""
        return f"{key}=… cannot be set here{hint}. See --help for all settings."
    meant = meant_settings(key, command=command)
    suggestion = f" Did you mean {', '.join(meant)}?" if meant else ""
    return f"{key} does not exist.{suggestion} See --help for all settings."


HYDRA_FLAGS = ("-h", "--help", "-m", "--multirun", "-c", "--cfg", "--resolve", "-p", "--package", "--info", "-i")
"""The flags of train.py and evaluate.py, which Hydra reads; every setting is KEY=VALUE."""

DRY_RUN = "--dry-run"
"""The flag of train.py that Hydra does not see."""


def check_flags(
    arguments: Sequence[str],
    allowed: Sequence[str] = ("-h", "--help"),
    renamed: Mapping[str, str] | None = None,
    command: type | None = None,
) -> None:
    """ConfigError for a flag that does not exist; the message gives the KEY=VALUE that was probably meant.

    renamed: flags of earlier releases → what to write instead. command: see `meant_settings`.
    """
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if not flag.startswith("-") or flag in allowed:
            continue
        if renamed and flag in renamed:
            raise ConfigError(f"{flag} is a setting now: write {renamed[flag]}.")
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if not equals and following and not following.startswith("-") and "=" not in following:
            value = following
        name = flag.lstrip("-")
        meant = meant_settings(name, command=command)
        near = near_misses(flag, [option for option in allowed if option.startswith("--")])
        if near and name not in _MEANT:
            raise ConfigError(f"{flag} does not exist.{near}")
        if meant:
            raise ConfigError(
                f"{flag} does not exist: settings are KEY=VALUE, without dashes. Write {meant[0]}={value or '…'}"
            )
        raise ConfigError(
            f"{flag} does not exist: settings are KEY=VALUE, such as trainer.max_epochs=3. See --help for all of them."
        )
