"""What stands before the first step, and before the first step of a new stage.

All that can be checked is checked here, before hours are spent.
"""

from __future__ import annotations

from array import array
from pathlib import Path

import torch

from captioner.config import AugmentConfig, TrainConfig
from captioner.config.checks import starts_before_end
from captioner.data.batches import (
    captioned_images,
    encode_captions,
    mix_seeds,
    tokenize_captions,
)
from captioner.data.dataset import CaptionDataset
from captioner.data.datasets.registry import available_splits, check_has_boxes, load_dataset
from captioner.data.datasets.splits import split_name
from captioner.data.features.sources import FeatureSource, open_features
from captioner.data.images.augment import Augmentation
from captioner.distributed.checks import check_processes, check_ranks_agree
from captioner.distributed.device import choose_device
from captioner.distributed.ranks import (
    all_gather_union,
    local_rank0_first,
    rank_info,
)
from captioner.errors import ConfigError, DataError, choose
from captioner.evaluation.grounding import NEEDS_ATTENTION
from captioner.nn.build import build_model
from captioner.nn.model import CaptioningModel
from captioner.text.tokenizers import build_tokenizer
from captioner.text.vocabulary import Vocabulary
from captioner.training.compile import compile_steps
from captioner.training.ema import ExponentialMovingAverage
from captioner.training.optimizer import build_optimizer
from captioner.training.precision import build_scaler, check_precision
from captioner.training.resume import restore
from captioner.training.run import Run
from captioner.training.self_critical import caption_reward


def prepare(config: TrainConfig, folder: Path, *, resume: bool = False) -> Run:
    """Everything that stands before the first step, in the order in which mistakes are cheapest to find.

    Writes nothing but the feature cache. `resume`: from the latest checkpoint of the run in `folder`, or from the
    beginning where it was killed before there was one.
    """
    torch.manual_seed(config.seed)
    check_processes(config, rank_info())
    device = choose_device(config.device)
    check_settings(config)
    check_precision(config.trainer.precision, device)
    with local_rank0_first():  # it draws the images that are to be drawn
        train_set, val_set = load_dataset(config.data, "train"), load_dataset(config.data, "val")
    tokenizer = build_tokenizer(config.tokenizer)
    tokenized = tokenize_captions(train_set, tokenizer)
    vocabulary = Vocabulary.from_captions((words for own in tokenized for words in own), config.vocabulary)
    captions = encode_captions(tokenized, vocabulary, config.trainer.max_caption_length)
    with local_rank0_first():  # it downloads the weights that are to be downloaded
        model = build_model(config.model, config.encoder, len(vocabulary)).to(device)
    usable = captioned_images(captions, train_set)
    steps_per_epoch = -(-len(usable) // config.trainer.batch_size)
    optimizer = build_optimizer(model, config.optim, config.encoder.fine_tune_after * steps_per_epoch)
    learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if config.trainer.compile:
        compile_steps(model.decoder, device)
    if config.encoder.fine_tune_after > 0:
        model.encoder.freeze()
    whole = config.augment.after > 0
    train_features = training_features(config, train_set, model, device, whole)
    val_features = features_of(config, val_set, model, device)
    run = Run(
        config=config,
        folder=folder,
        device=device,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        train_set=train_set,
        val_set=val_set,
        captions=captions,
        indices=array("q", (index for index in usable if index not in train_features.bad)),
        model=model,
        train_features=train_features,
        val_features=val_features,
        optimizer=optimizer,
        scaler=build_scaler(config.trainer.precision, device),
        gradient_accumulation_steps=config.trainer.gradient_accumulation_steps or 0,
        reward=None if config.reward.after is None else caption_reward(captions, usable, config.reward.bleu),
        whole_images=whole,
        ema=None if config.trainer.ema is None else ExponentialMovingAverage(learning, config.trainer.ema),
        resumed=resume,
    )
    if rank_info().rank > 0:  # other random numbers for dropout, the same weights
        torch.manual_seed(mix_seeds(config.seed, rank_info().rank))
    if resume:
        restore(run)
    check_ranks_agree(run.model, run.captions, run.indices, run.progress.step, run.folder)
    return run


def begin_epoch(run: Run) -> list[str]:
    """Begin a new stage in the epoch that the settings name; what is to be said about it.

    What was found out about the stage before is asked anew: how often it has not improved, how much memory it needs.
    """
    progress, encoder = run.progress, run.model.encoder
    resumed = progress.batch > 0  # in an epoch that has begun before
    thaws = encoder.fine_tuning_paused and progress.epoch >= run.config.encoder.fine_tune_after
    varies = run.whole_images and progress.epoch >= run.config.augment.after
    if thaws:
        encoder.unfreeze()
    if varies:
        run.whole_images = False
    if thaws or varies:
        run.train_features = training_features(run.config, run.train_set, run.model, run.device, run.whole_images)
    if thaws:
        run.val_features = features_of(run.config, run.val_set, run.model, run.device)
    begun = []
    if thaws and progress.epoch == run.config.encoder.fine_tune_after and not resumed:
        begun.append(f"From here on the encoder learns too, from {run.config.encoder.fine_tune_from} on.")
    if varies and progress.epoch == run.config.augment.after and not resumed:
        begun.append(f"From here on images are varied: features for training {run.train_features.origin}.")
    if progress.epoch == run.config.reward.after and not resumed:
        run.optimizer.state.clear()  # Adam's averages are of other gradients
        begun.append(
            f"From here on the decoder learns from the CIDEr of captions that it says, "
            f"{run.config.reward.samples} an image."
        )
    if begun:
        progress.validations_without_gain = 0
        run.gradient_accumulation_steps = run.config.trainer.gradient_accumulation_steps or 0
    return begun


def check_settings(config: TrainConfig) -> None:
    """ConfigError for what would only show later: before hours are spent."""
    epochs = config.trainer.max_epochs
    starts_before_end("encoder.fine_tune_after", config.encoder.fine_tune_after, epochs, "the encoder learns")
    starts_before_end("augment.after", config.augment.after, epochs, "images are varied")
    available = available_splits(config.data)
    if "val" not in available:
        raise DataError(
            f"{config.data.name} at {config.data.root} has no val split ({', '.join(available)}), and training needs "
            "one to choose its best checkpoint: name one in the captions file, or set data.val_fraction above 0."
        )
    if config.metric.grounding is not None and not config.model.attends:
        raise ConfigError(NEEDS_ATTENTION)
    for split in config.trainer.evaluate_splits:
        name = choose("trainer.evaluate_splits", split_name(split) or split, available)
        if config.metric.grounding is not None:
            check_has_boxes(config.data, name)


def training_features(
    config: TrainConfig, dataset: CaptionDataset, model: CaptioningModel, device: torch.device, whole: bool
) -> FeatureSource:
    """What the training sees: `whole` images, or images that are varied as the settings say."""
    return features_of(config, dataset, model, device, AugmentConfig() if whole else config.augment)


def features_of(
    config: TrainConfig,
    dataset: CaptionDataset,
    model: CaptioningModel,
    device: torch.device,
    varied: AugmentConfig | None = None,
) -> FeatureSource:
    """Features of a data set as this run's decoder needs them; several processes fill the cache together.

    `varied`: of a training, how images are varied in each epoch, beside what the cache can (`cache.flips`).
    """
    features = open_features(
        dataset,
        model.encoder,
        with_grid=model.needs_grid,
        data=config.data,
        cache=config.cache,
        device=device,
        augmentation=None if varied is None else Augmentation(varied, config.seed),
    )
    all_gather_union(features.bad)  # what one process could not read
    return features
