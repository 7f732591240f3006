"""Prepares a run: checks the settings, reads the data, builds the model; and enters each training phase."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from captioner.checkpoint.checkpoint import load_tokenizer_model, load_vocabulary
from captioner.checkpoint.index import find_checkpoint, read_index
from captioner.config import AugmentConfig, RewardConfig, TrainConfig
from captioner.config.training import FREQUENCIES
from captioner.data.batches import mix_seeds, tokenize_captions
from captioner.data.caption_advice import TrainingLengths, caption_advice, describe_units
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import available_splits, check_has_boxes, load_dataset
from captioner.data.datasets.splits import split_name
from captioner.data.features.precomputed.source import checked_features
from captioner.data.features.sources import FeatureSource, open_features
from captioner.data.images.augment import Augmentation
from captioner.data.token_ids import EncodedCaptions
from captioner.data.training_data import (
    REQUIRED,
    TrainingCaptions,
    check_splits,
    encode_training_captions,
    splits_of_training,
)
from captioner.distributed.checks import check_processes, check_ranks_agree
from captioner.distributed.device import choose_device
from captioner.distributed.ranks import (
    all_gather_union,
    broadcast_from_rank0,
    is_main_process,
    local_rank0_first,
    rank_info,
)
from captioner.errors import ConfigError
from captioner.evaluation.grounding import NEEDS_ATTENTION
from captioner.evaluation.reference_loss import encode_references
from captioner.evaluation.scoring_tokenizer import scoring_tokenizer
from captioner.metrics.java import MetricUnavailable
from captioner.metrics.meteor.meteor_metric import shared_meteor
from captioner.metrics.registry import METRICS, validation_metrics
from captioner.nn.build_model import build_model
from captioner.nn.encoders.class_head import has_class_head
from captioner.nn.model import CaptioningModel
from captioner.text.phrases import PhraseStatistics
from captioner.text.tokenizers import Tokenizer, build_tokenizer, is_learned, learn_tokenizer
from captioner.text.vocabulary import Vocabulary
from captioner.training.anchor import Anchor
from captioner.training.compile import compile_steps
from captioner.training.ema import ExponentialMovingAverage
from captioner.training.init_from import model_of_checkpoint, starting_checkpoint
from captioner.training.optimizer import build_optimizer
from captioner.training.phases import SELF_CRITICAL, Phase, phase_of_epoch, plan_phases
from captioner.training.precision import build_scaler, check_precision
from captioner.training.resume import restore, using_ema_weights
from captioner.training.run import Run
from captioner.training.run_identity import run_identity
from captioner.training.self_critical import Reward, caption_reward, meteor_reward


def prepare(config: TrainConfig, folder: Path, *, resume: bool = False) -> Run:
    """A run that is ready to train: settings checked, data read, model and optimizer built, features open.

    Checks come first, the cheapest before the others. Writes nothing but the feature cache. resume: continue from the
    latest checkpoint of the run in `folder`, or from step 0 if it was killed before its first checkpoint.

    Raises ConfigError, DataError or CheckpointError with a message for the user.
    """
    torch.manual_seed(config.seed)
    check_processes(config, rank_info())
    device = choose_device(config.device)
    check_settings(config)
    check_precision(config.trainer.precision, device)
    train_set, val_set = load_splits(config)
    config = with_feature_dim(config, train_set)
    start = starting_checkpoint(config, folder, resume=resume)
    tokenizer = tokenizer_of_run(config, train_set, folder, start, resume=resume)
    known = None if start is None else load_vocabulary(start)
    (vocabulary, captions, usable), advice = encode_and_advise(config, train_set, val_set, tokenizer, known)
    check_class_weight(config, vocabulary)
    vocabulary.count_phrases_when_needed(
        partial(PhraseStatistics.from_flat, captions.token_ids, captions.caption_offsets, vocabulary.special.end)
    )
    model = model_of_checkpoint(config, start) if start else new_model(config, vocabulary, captions)
    model = model.to(device)
    steps_per_epoch = -(-len(usable) // config.trainer.batch_size)
    phases = plan_phases(config)
    fine_tuning_starts = next((phase.first_epoch for phase in phases if phase.fine_tune_from is not None), 0)
    optimizer = build_optimizer(model, config.optim, fine_tuning_starts * steps_per_epoch)
    trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if config.trainer.compile:
        compile_steps(model.decoder, device)
    if phases[0].fine_tune_from is None:
        model.encoder.freeze()
    train_features = training_features(config, train_set, model, device, phases[0])
    val_features = features_of(config, val_set, model, device)
    run = Run(
        config=config,
        folder=folder,
        device=device,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        train_set=train_set,
        val_set=val_set,
        val_captions=encode_references(val_set, tokenizer, vocabulary),
        captions=captions,
        indices=array("q", (index for index in usable if index not in train_features.bad)),
        model=model,
        train_features=train_features,
        val_features=val_features,
        optimizer=optimizer,
        scaler=build_scaler(config.trainer.precision, device),
        gradient_accumulation_steps=config.trainer.gradient_accumulation_steps or 0,
        reward=build_reward(config.reward, captions, usable, train_set, tokenizer, vocabulary),
        phases=phases,
        phase=phases[0],
        ema=None if config.trainer.ema is None else ExponentialMovingAverage(trainable, config.trainer.ema),
        resumed=resume,
        advice=tuple(advice),
        identity=run_identity(config, train_set, train_features, val_set, val_features) if is_main_process() else {},
    )
    if rank_info().rank > 0:  # the same weights, but other random numbers for dropout
        torch.manual_seed(mix_seeds(config.seed, rank_info().rank))
    if resume:
        restore(run)
    check_ranks_agree(run.model, run.captions, run.indices, run.progress.step, run.folder)
    return run


def check_class_weight(config: TrainConfig, vocabulary: Vocabulary) -> None:
    """ConfigError where `decode.class_weight` could not be used when the training is over, and its scores are due."""
    weight = f"decode.class_weight={config.decode.class_weight:g}"
    if config.decode.name != "beam" or not config.decode.class_weight:
        return
    if not has_class_head(config.encoder):
        raise ConfigError(
            f"{weight} needs an encoder with a published classifier, and encoder.name={config.encoder.name} with "
            f"encoder.weights={config.encoder.weights} has none (docs/tags.md). Leave it out."
        )
    if not vocabulary.class_preferences.has_words:
        raise ConfigError(
            f"{weight} has no effect: the training captions have no word of captioner/text/class_words.txt, whose "
            "words are English and undivided. Leave it out."
        )


def new_model(config: TrainConfig, vocabulary: Vocabulary, captions: EncodedCaptions) -> CaptioningModel:
    """The model before training, which sees images as `data.stretch` says, and knows how frequent each word is."""
    with local_rank0_first():  # it downloads pretrained weights
        model = build_model(config.model, config.encoder, len(vocabulary))
        model.decoder.prepare_training(vocabulary, config.encoder)
    if config.trainer.output_bias == FREQUENCIES:
        counts = captions.target_counts(len(vocabulary), vocabulary.special.end)
        model.decoder.start_from_frequencies(torch.from_numpy(counts))
    model.encoder.transform = replace(model.encoder.transform, stretch=config.data.stretch)
    return model


def build_reward(
    config: RewardConfig,
    captions: EncodedCaptions,
    indices: Sequence[int],
    train_set: CaptionDataset,
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
) -> Reward | None:
    """The reward of generated captions of the images `indices`; None without an RL phase."""
    if config.after is None:
        return None
    meteor = None
    if config.meteor:
        meteor = config.meteor, meteor_reward(tokenize_captions(train_set, tokenizer), vocabulary)
    phrases = vocabulary.phrases if config.fluency else None
    return caption_reward(captions, indices, config.bleu, config.fluency, phrases, meteor, config.length)


def with_feature_dim(config: TrainConfig, train_set: CaptionDataset) -> TrainConfig:
    """`config` with the number of values per region of features made elsewhere, if it uses such features."""
    if config.data.features is None or config.encoder.feature_dim is not None:
        return config
    _, _, summary = checked_features(train_set, config.data)
    return replace(config, encoder=replace(config.encoder, feature_dim=summary.feature_dim))


def begin_epoch(run: Run) -> bool:
    """Enter the phase of the current epoch, unless the run is in it; returns whether the phase starts here.

    A phase that starts resets what belongs to the phase before: the validations without gain, the number of
    micro-batches that fits into memory and, for another objective, the optimizer's moving averages. A run that is
    resumed inside the phase has restored them from its checkpoint.
    """
    starts = _enter_phase(run)
    keep_anchor(run)
    return starts


def keep_anchor(run: Run) -> None:
    """Where self-critical training starts with `reward.kl_weight`: keep the decoder as it is scored now.

    ConfigError in the middle of the phase, if the run was not started with it.
    """
    weight, progress = run.config.reward.kl_weight, run.progress
    if not weight or run.anchor is not None or run.phase.objective != SELF_CRITICAL:
        return
    if progress.epoch > (run.config.reward.after or 0) or progress.batch > 0:
        raise ConfigError(
            f"reward.kl_weight={weight:g} cannot begin in the middle of self-critical training: the weights at its "
            "start were not stored. Resume without it, or start a run with init_from= and reward.after=0."
        )
    with using_ema_weights(run):
        run.anchor = Anchor(run.model.decoder)


def _enter_phase(run: Run) -> bool:
    previous, progress = run.phase, run.progress
    run.phase = phase = phase_of_epoch(run.phases, progress.epoch)
    if phase == previous:
        return False
    unfreezes = phase.fine_tune_from != previous.fine_tune_from
    if unfreezes:
        run.model.encoder.unfreeze()
    if unfreezes or phase.augmented != previous.augmented:
        run.train_features = training_features(run.config, run.train_set, run.model, run.device, phase)
    if unfreezes:
        run.val_features = features_of(run.config, run.val_set, run.model, run.device)
    if progress.epoch > phase.first_epoch or progress.batch > 0:
        return False
    if phase.objective != previous.objective:
        run.optimizer.state.clear()  # its moving averages are those of other gradients
    progress.validations_without_gain = 0
    run.gradient_accumulation_steps = run.config.trainer.gradient_accumulation_steps or 0
    return True


def check_settings(config: TrainConfig) -> None:
    """ConfigError or DataError for settings that would otherwise fail only at the end of the training."""
    available = available_splits(config.data)
    check_splits(config.data, available, config.trainer.evaluate_splits)
    if config.metric.grounding is not None and not config.model.attends:
        raise ConfigError(NEEDS_ATTENTION)
    if config.reward.after is not None and config.reward.meteor:
        check_meteor(config.reward.meteor)
    check_monitor(config.trainer.monitor)
    for name in set(config.metric.names).intersection(METRICS.plugins()):
        METRICS[name]  # raises if it cannot be imported
    scoring_tokenizer(config.metric, config.tokenizer, ())
    if config.metric.grounding is not None:
        for split in config.trainer.evaluate_splits:
            check_has_boxes(config.data, split_name(split) or split)


def tokenizer_of_run(
    config: TrainConfig, train_set: CaptionDataset, folder: Path, start: Path | None, *, resume: bool
) -> Tokenizer:
    """The tokenizer; one that is learned is learned from the training captions, or read from a checkpoint.

    That is the latest of a run that is resumed, or the one from which the run starts.
    """
    if not is_learned(config.tokenizer):
        return build_tokenizer(config.tokenizer)

    def learned_model() -> bytes | None:
        resumed = resume and read_index(folder) is not None
        stored = find_checkpoint(folder, "latest") if resumed else start
        if stored is not None:
            return load_tokenizer_model(stored)
        return learn_tokenizer(config.tokenizer, train_set.all_captions).model

    return build_tokenizer(config.tokenizer, broadcast_from_rank0(learned_model))


def encode_and_advise(
    config: TrainConfig,
    train_set: CaptionDataset,
    val_set: CaptionDataset,
    tokenizer: Tokenizer,
    known: Vocabulary | None = None,
) -> tuple[TrainingCaptions, list[str]]:
    """The training captions as token ids, and messages about settings that do not fit the captions.

    known: the vocabulary of the checkpoint that the training starts from; None: that of the training captions.
    """
    tokenized = tokenize_captions(train_set, tokenizer)
    length = config.trainer.max_caption_length
    encoded = encode_training_captions(train_set, tokenized, config.vocabulary, length, known)
    advice = caption_advice(
        tokenized,
        tokenize_captions(val_set, tokenizer),
        encoded.vocabulary,
        None if known is not None else config.vocabulary,
        config.tokenizer.name,
        TrainingLengths(config.trainer.max_caption_length, config.decode.max_length),
    )
    if tokenizer.model is not None:
        advice.insert(0, describe_units(tokenized, tokenizer.name))
    return encoded, advice


def load_splits(config: TrainConfig) -> tuple[CaptionDataset, CaptionDataset]:
    """The splits train and val. DataError also for a split that only the evaluation at the end reads, and could not."""
    with local_rank0_first():  # it generates synthetic images
        train_set, val_set = load_dataset(config.data, "train"), load_dataset(config.data, "val")
        for split in splits_of_training(config.trainer.evaluate_splits):
            if split not in REQUIRED:
                load_dataset(config.data, split)
    return train_set, val_set


def check_monitor(monitor: str) -> None:
    """ConfigError where `trainer.monitor` cannot be computed on this machine, which validations would find out late."""
    for name in validation_metrics(monitor):
        check = METRICS[name].check
        if check is not None:
            try:
                check()
            except MetricUnavailable as error:
                raise ConfigError(f"trainer.monitor={monitor} cannot be computed: {error}") from error


def check_meteor(weight: float) -> None:
    """ConfigError where METEOR, a reward of this weight, cannot be computed. Makes its index on first use."""
    try:
        with local_rank0_first():
            shared_meteor()
    except MetricUnavailable as error:
        raise ConfigError(f"reward.meteor={weight:g} cannot be computed: {error}") from error


def training_features(
    config: TrainConfig, dataset: CaptionDataset, model: CaptioningModel, device: torch.device, phase: Phase
) -> FeatureSource:
    """Features of the training images, which are augmented or whole as `phase` determines."""
    return features_of(config, dataset, model, device, config.augment if phase.augmented else AugmentConfig())


def features_of(
    config: TrainConfig,
    dataset: CaptionDataset,
    model: CaptioningModel,
    device: torch.device,
    augment: AugmentConfig | None = None,
) -> FeatureSource:
    """Features of a data set: grids where the decoder attends, else vectors. Several processes fill the cache together.

    augment: how training images are augmented, in addition to `cache.flips`; None for evaluation.
    """
    features = open_features(
        dataset,
        model.encoder,
        with_grid=model.needs_grid,
        data=config.data,
        cache=config.cache,
        device=device,
        augmentation=None if augment is None else Augmentation(augment, config.seed),
    )
    all_gather_union(features.bad)  # images that another process could not read
    return features
