"""The settings of the optimizer, of training and of the metrics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from captioner.config.checks import at_least, check_choices, within
from captioner.config.text import TOKENIZERS
from captioner.errors import ConfigError, choose
from captioner.registry import load_object

FREQUENCIES = "frequencies"
_METRICS = "captioner.metrics.registry"  # imported when a value is not the default: it needs NumPy


@dataclass
class OptimConfig:
    """The optimizer and its learning rate schedule."""

    choices: ClassVar[dict[str, Iterable[str]]] = {
        "name": ("adam", "adamw", "sgd"),
        "schedule": ("constant", "cosine", "step"),
    }

    name: str = "adamw"  # adam, adamw or sgd
    learning_rate: float = 1e-3  # at the end of the warm-up
    encoder_learning_rate: float = 1e-5  # of the trainable blocks of the encoder
    weight_decay: float = 0.0  # decoupled for adamw, an L2 penalty for adam and sgd
    betas: tuple[float, float] = (0.9, 0.999)  # decay rates of the moments; for sgd the first is its momentum
    schedule: str = "cosine"  # constant, cosine (to zero over the run) or step
    warmup_steps: int = 100  # optimizer steps in which the learning rate rises linearly from zero
    step_epochs: int = 3  # step: epochs after which the learning rate is multiplied by step_factor
    step_factor: float = 0.5  # step: factor of the learning rate
    clip_norm: float | None = 5.0  # largest norm of the gradient; null: no clipping

    def __post_init__(self) -> None:
        check_choices("optim", self)
        for key in ("learning_rate", "encoder_learning_rate", "weight_decay", "warmup_steps"):
            at_least(f"optim.{key}", getattr(self, key), 0)
        at_least("optim.step_epochs", self.step_epochs, 1)
        at_least("optim.step_factor", self.step_factor, 0)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optim.betas={list(self.betas)}: expected two numbers from 0 up to, but not, 1.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(f"optim.clip_norm={self.clip_norm}: expected more than 0, or null for no clipping.")


@dataclass
class TrainerConfig:
    """Duration, batches, validation and checkpoints."""

    choices: ClassVar[dict[str, Iterable[str]]] = {
        "precision": ("float32", "bfloat16", "float16"),
        "float32_matmul_precision": ("highest", "high", "medium"),
        "output_bias": (FREQUENCIES, "zeros"),
    }

    max_epochs: int = 12  # passes over the training images
    max_steps: int | None = None  # stop after this many optimizer steps, whatever the epoch
    batch_size: int = 16  # images per optimizer step, over all ranks, each with all its captions
    # micro-batches per batch, one in memory at a time; null: find what fits
    gradient_accumulation_steps: int | None = 1
    devices: int | None = None  # processes to start on this machine, one GPU each; null: one, or those of torchrun
    timeout_minutes: float = 10.0  # how long a rank waits for the others before the job ends
    captions_per_image: int | None = None  # captions sampled per image in each epoch; null: all
    max_caption_length: int = 30  # in words; longer training captions are truncated
    output_bias: str = FREQUENCIES  # of the output layer at first: log-frequencies of the words (frequencies), or zeros
    label_smoothing: float = 0.1  # share of the target probability that is spread over all words
    validate_every: int = 1  # epochs between validations, which score generated captions
    monitor: str = "CIDEr"  # the score that selects the best checkpoint, such as CIDEr, Bleu_4 or ROUGE_L
    patience: int | None = 4  # stop after this many validations without a better score; null: never
    log_every: int = 10  # steps between log lines
    keep_last: int = 1  # checkpoints kept besides the best
    keep_best: int = 1  # best checkpoints kept, by the score of `monitor`; `average=bestN` needs N of them
    evaluate_splits: list[str] = field(default_factory=lambda: ["val"])  # evaluated at the end with the best checkpoint
    eval_batch_size: int = 64  # images captioned together in validation and evaluation
    precision: str = "float32"  # float32, or mixed precision: bfloat16, float16 (GPU only)
    float32_matmul_precision: str = "highest"  # highest, or operands rounded to TF32 or bfloat16: high, medium
    ema: float | None = None  # decay of a moving average of the weights, used instead of them; null: none
    compile: bool = False  # compile the steps of the cells with torch.compile (for GPUs; starts in a minute)
    detect_anomaly: bool = False  # report the module and operation in which a NaN arose (slow)
    tensorboard: bool = False  # also write TensorBoard files (pip install 'captioner[tensorboard]')

    def __post_init__(self) -> None:
        for key in ("max_epochs", "max_steps", "batch_size", "gradient_accumulation_steps", "captions_per_image"):
            at_least(f"trainer.{key}", getattr(self, key), 1)
        for key in ("max_caption_length", "validate_every", "patience", "log_every", "keep_last"):
            at_least(f"trainer.{key}", getattr(self, key), 1)
        for key in ("keep_best", "eval_batch_size"):
            at_least(f"trainer.{key}", getattr(self, key), 1)
        at_least("trainer.devices", self.devices, 1)
        within("trainer.timeout_minutes", self.timeout_minutes, 0.01, 100_000)
        within("trainer.label_smoothing", self.label_smoothing, 0.0, 0.9)
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"trainer.ema={self.ema}: expected a decay between 0 and 1, such as 0.999, or null.")
        check_choices("trainer", self)
        if self.monitor != type(self).monitor:
            choose("trainer.monitor", self.monitor, load_object(f"{_METRICS}:monitored_scores")())


DEFAULT_METRICS = ("Bleu", "ROUGE_L", "CIDEr", "METEOR")


@dataclass
class MetricConfig:
    """The metrics that an evaluation reports."""

    choices: ClassVar[dict[str, Iterable[str]]] = {
        "grounding": ("generated", "references"),
        "tokenizer": TOKENIZERS,
    }

    # the metrics; also CIDEr_plain, METEOR_java, Bleu_nltk, SPICE, Diversity, Fluency, CHAIR (see docs/metrics.md)
    names: list[str] = field(default_factory=lambda: list(DEFAULT_METRICS))
    # tokenizer of the captions that are scored: ptb, whitespace, char; null: `tokenizer`, but ptb or char for bpe
    tokenizer: str | None = None
    rare_at_most: int | None = None  # Diversity: also the recall of words that training captions use at most this often
    per_image: bool = False  # also write a CSV file with every image's scores
    grounding: str | None = None  # attention inside the boxes of named objects, in captions: generated or references

    def __post_init__(self) -> None:
        check_choices("metric", self)
        if not set(self.names) <= set(DEFAULT_METRICS):
            load_object(f"{_METRICS}:check_names")(self.names)
