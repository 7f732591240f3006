"""The settings of each command: all groups together."""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.config.augment import AugmentConfig
from captioner.config.checks import at_least, check_resume_despite, starts_before_end, within
from captioner.config.data import CacheConfig, DataConfig, ScenesConfig
from captioner.config.decode import DecodeConfig
from captioner.config.encoder import NO_ENCODER_NAME, EncoderConfig
from captioner.config.language_model import (
    LanguageNetworkConfig,
    LanguageTrainerConfig,
    SamplingConfig,
    TextConfig,
)
from captioner.config.meteor import MeteorConfig
from captioner.config.model import ModelConfig, RecurrentConfig
from captioner.config.objective import ObjectiveConfig
from captioner.config.reward import RewardConfig
from captioner.config.text import TokenizerConfig, VocabularyConfig
from captioner.config.training import MetricConfig, OptimConfig, TrainerConfig
from captioner.errors import ConfigError

CHANGES = ("data", "seed", "batch_size", "phases")  # since a checkpoint, that `resume_despite` of a captioner accepts
LANGUAGE_CHANGES = ("data", "seed", "window")

MOST_CAPTIONS = 1000  # of one image

TASKS = ("captioning", "language_model")  # what `python train.py task=…` can train


@dataclass
class TrainConfig:
    """`python train.py`"""

    task: str = "captioning"  # captioning, or language_model: a recurrent language model of a text
    model: ModelConfig = field(default_factory=RecurrentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    data: DataConfig = field(default_factory=ScenesConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    metric: MetricConfig = field(default_factory=MetricConfig)
    meteor: MeteorConfig = field(default_factory=MeteorConfig)
    seed: int = 0  # fixes every random choice: two runs on a CPU give the same bytes
    device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
    resume: str | None = None  # a run folder: resume that run exactly where it stopped
    # with resume: changes to accept: data, seed, batch_size, phases (see docs/runs.md)
    resume_despite: list[str] = field(default_factory=list)
    init_from: str | None = None  # a run, checkpoint or bundled model: start from its weights, with its model and words

    def __post_init__(self) -> None:
        check_resume_despite(self.resume_despite, CHANGES, self.resume)
        self._check_features()
        if self.cache.flips and self.augment.flip and not self.augment.after:
            raise ConfigError(
                f"cache.flips=true and augment.flip={self.augment.flip} both mirror images: set one of them."
            )
        epochs = self.trainer.max_epochs
        starts_before_end("encoder.fine_tune_after", self.encoder.fine_tune_after, epochs, "the encoder is trained")
        starts_before_end("augment.after", self.augment.after, epochs, "images are augmented")
        if self.reward.after == 0 and self.init_from is None and self.resume is None:
            raise ConfigError(
                "reward.after=0 starts with self-critical training, which needs a model that writes captions: give "
                "init_from=CHECKPOINT too, or set reward.after to the epochs of cross-entropy training, at least 1."
            )
        if self.decode.consensus_weight:
            raise ConfigError(
                f"decode.consensus_weight={self.decode.consensus_weight:g} needs a consensus predictor, which is "
                "fitted to a trained model: leave it out, and run python -m captioner consensus --checkpoint RUN after "
                "the training."
            )
        self._check_r_drop()
        starts_before_end("reward.after", self.reward.after or 0, epochs, "self-critical training (SCST) runs")
        if self.reward.after is not None and self.reward.meteor and self.meteor.backend == "java":
            raise ConfigError(
                f"meteor.backend=java cannot go with reward.meteor={self.reward.meteor:g}: the reward is always "
                "computed by captioner's own METEOR, which gives the same scores. Leave meteor.backend out, or choose "
                "meteor.backend=python; metric.names=[METEOR_java] reports the jar's scores too."
            )
        if self.reward.after is not None and self.model.samples_attention:
            raise ConfigError(
                f"reward.after={self.reward.after} cannot go with model.attention=hard: it samples where to attend, "
                "and self-critical training does not train that. Choose attention=soft, adaptive or none, or "
                "reward=none."
            )

    def _check_r_drop(self) -> None:
        """ConfigError where two passes cannot be compared."""
        if not self.objective.r_drop:
            return
        if not self.model.dropout:
            raise ConfigError(
                f"objective.r_drop={self.objective.r_drop:g} has no effect with model.dropout=0: it compares two "
                "passes with different dropout. Choose model.dropout=0.5, or leave objective.r_drop out."
            )
        if self.model.samples_attention:
            raise ConfigError(
                f"objective.r_drop={self.objective.r_drop:g} cannot go with model.attention=hard: the two passes would "
                "attend to different samples. Choose attention=soft, adaptive or none, or leave objective.r_drop out."
            )

    def _check_features(self) -> None:
        """Without images there is no encoder: replace the default one; ConfigError for settings that need images."""
        has_encoder = self.encoder.name != NO_ENCODER_NAME
        if self.data.features is None:
            if not has_encoder:
                raise ConfigError("encoder=none is for features made elsewhere: give data.features=DIR.")
            return
        if has_encoder and self.encoder != EncoderConfig():
            raise ConfigError(
                f"encoder.name={self.encoder.name} has no effect with data.features={self.data.features}, which is "
                "used instead of an encoder. Leave one of them out."
            )
        needs_images = {
            "augment": self.augment.active,
            "cache.flips=true": self.cache.flips,
            "data.stretch": self.data.stretch != "none",
            "metric.grounding": self.metric.grounding is not None,
        }
        for name, is_used in needs_images.items():
            if is_used:
                raise ConfigError(f"{name} needs images, which are not read with data.features={self.data.features}.")
        if has_encoder:
            self.encoder = EncoderConfig(name=NO_ENCODER_NAME, weights=None)


@dataclass
class LanguageModelConfig:
    """`python train.py task=language_model`"""

    task: str = "language_model"  # captioning or language_model
    data: TextConfig = field(default_factory=TextConfig)
    model: LanguageNetworkConfig = field(default_factory=LanguageNetworkConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(learning_rate=0.006))
    trainer: LanguageTrainerConfig = field(default_factory=LanguageTrainerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0  # fixes every random choice: two runs on a CPU give the same bytes
    device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
    resume: str | None = None  # a run folder: resume that run exactly where it stopped
    resume_despite: list[str] = field(default_factory=list)  # with resume: changes to accept: data, seed, window

    def __post_init__(self) -> None:
        check_resume_despite(self.resume_despite, LANGUAGE_CHANGES, self.resume)


@dataclass
class EvaluateConfig:
    """`python evaluate.py`"""

    data: DataConfig = field(default_factory=ScenesConfig)
    split: str = "val"  # train, val or test
    checkpoint: str | None = None  # a run folder (its best checkpoint) or a checkpoint folder
    results: str | None = None  # or a file of captions: COCO results JSON, [{"image_id": …, "caption": "…"}]
    references: str | None = None  # the file of reference captions to score `results` against, instead of data=…
    subset: str | None = None  # results: score only the images that `results` has; null: all must have a caption
    compare: str | None = None  # a second file of captions: paired bootstrap over images against `results`
    report: bool = False  # also write report.html: scores, images with their captions, plots, attention
    submission: str | None = None  # the system's name: also write captions_<split>_NAME_results.json for a test server
    submission_zip: bool = False  # also pack this file into a zip
    ensemble: list[str] = field(default_factory=list)  # more checkpoints: each word is predicted by all together
    ensemble_mean: str = "probabilities"  # ensemble: the mean of the members' probabilities or log_probabilities
    average: str | None = None  # bestN: the mean weights of the N best checkpoints of each run (not of baselines)
    baselines: list[str] = field(default_factory=list)  # more checkpoints, to compare with the first in the report
    # captions generated of each image, and how different they are from each other (docs/diversity.md)
    captions_per_image: int = 1
    hard_at_test: str | None = None  # hard attention: expected or sample; null: as in the settings of the model
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    metric: MetricConfig = field(default_factory=MetricConfig)
    meteor: MeteorConfig = field(default_factory=MeteorConfig)
    batch_size: int = 64  # images captioned together
    device: str = "auto"  # auto, cpu, cuda, cuda:1 or mps
    devices: int | None = None  # processes that caption, one GPU each; null: one, or those of torchrun

    def __post_init__(self) -> None:
        at_least("devices", self.devices, 1)
        within("captions_per_image", self.captions_per_image, 1, MOST_CAPTIONS)
        several = "Caption_sets" in self.metric.names
        if several and self.captions_per_image == 1:
            raise ConfigError("metric.names has Caption_sets, which needs several: give captions_per_image=5 as well.")
