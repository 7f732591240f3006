"""Generate captions for every image of a split with a model, and score them against its reference captions.

The search sees no reference. Only the loss on the references (`reference_loss`) is measured under teacher forcing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import torch

from captioner.config import RANKED_SEARCHES, DecodeConfig, MeteorConfig, MetricConfig, TokenizerConfig
from captioner.data.batches import sequential_batches
from captioner.data.dataset import CaptionDataset, ImageId
from captioner.data.features.sources import FeatureSource
from captioner.decode import Hypothesis, search
from captioner.decode.consensus import ConsensusPredictor
from captioner.distributed.ranks import all_gather, all_gather_union, broadcast_from_rank0, is_main_process, share
from captioner.errors import ConfigError
from captioner.evaluation.evaluation import (
    Evaluation,
    evaluation_signature,
    has_references,
    score_captions,
    without_references,
)
from captioner.evaluation.grounding import (
    AttendedCaption,
    attention_on_references,
    measure_grounding,
    require_attention,
)
from captioner.evaluation.reference_loss import ReferenceLossSum, encode_references
from captioner.metrics.caption_sets import NAME as CAPTION_SETS
from captioner.metrics.format import score_notices
from captioner.metrics.grounding_scores import Grounding, TooFewObjectWordsError
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.model import CaptioningModel
from captioner.nn.types import ImageFeatures
from captioner.progress_bar import Progress
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary


def generate_captions(
    model: CaptioningModel,
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    dataset: CaptionDataset,
    features: FeatureSource,
    decode: DecodeConfig,
    batch_size: int,
    reference_loss: ReferenceLossSum | None = None,
) -> dict[ImageId, str]:
    """Image id → generated caption, for every image that can be read. The model's training mode is restored.

    features: of the images of `dataset`. batch_size: images decoded together. reference_loss: see
    `generate_hypotheses`.
    """
    found = generate_hypotheses(model, vocabulary, dataset, features, decode, batch_size, reference_loss=reference_loss)
    return {
        dataset.images[index].image_id: tokenizer.join(vocabulary.decode_caption(hypothesis.tokens))
        for index, hypothesis in found.items()
    }


def generate_hypotheses(
    model: CaptioningModel,
    vocabulary: Vocabulary,
    dataset: CaptionDataset,
    features: FeatureSource,
    decode: DecodeConfig,
    batch_size: int,
    *,
    with_attention: bool = False,
    reference_loss: ReferenceLossSum | None = None,
) -> dict[int, Hypothesis]:
    """Index of the image in the split → the best hypothesis, for every image that can be read; see below."""
    found = generate_hypothesis_sets(
        model,
        vocabulary,
        dataset,
        features,
        decode,
        batch_size,
        1,
        with_attention=with_attention,
        reference_loss=reference_loss,
    )
    return {index: hypotheses[0] for index, hypotheses in found.items()}


def generate_hypothesis_sets(
    model: CaptioningModel,
    vocabulary: Vocabulary,
    dataset: CaptionDataset,
    features: FeatureSource,
    decode: DecodeConfig,
    batch_size: int,
    count: int,
    *,
    with_attention: bool = False,
    reference_loss: ReferenceLossSum | None = None,
    consensus: ConsensusPredictor | None = None,
) -> dict[int, list[Hypothesis]]:
    """Index of the image in the split → its `count` best hypotheses, for every image that can be read.

    Of a search that samples: `count` samples, the first of which is that of `count=1`. A search that finds fewer
    different captions repeats them, best first.

    with_attention: keep the attention weights, on the CPU. reference_loss: the loss on the references is added to it,
    from the same features, because encoding the images again would take longer than the loss. consensus: for
    `decode.consensus_weight`. With several processes
    each decodes a share of the images, and all return the hypotheses of all images.
    """
    all_gather_union(features.bad)
    was_training = model.training
    model.eval()
    best: dict[int, list[Hypothesis]] = {}
    images = share(range(len(dataset)))
    batches = [[images[i] for i in batch] for batch in sequential_batches(len(images), batch_size)]
    title = f"captions of {dataset.name} {dataset.split}"
    try:
        with (
            torch.inference_mode(),
            Progress(len(images), title, enabled=is_main_process()) as progress,
        ):
            for indices, batch in features.batches(batches):
                if not indices:
                    continue
                ids = [dataset.images[index].image_id for index in indices]
                found = _search_sets(model.decoder, batch, decode, vocabulary, ids, count, consensus)
                for index, hypotheses in zip(indices, found, strict=True):
                    best[index] = [_on_cpu(one, with_attention) for one in islice(cycle(hypotheses), count)]
                if reference_loss is not None:
                    reference_loss.add(model.decoder, indices, batch)
                progress.update(len(indices))
    finally:
        model.train(was_training)
    all_gather_union(features.bad)
    of_all_ranks = {index: hypotheses for of_rank in all_gather(best) for index, hypotheses in of_rank.items()}
    return {index: of_all_ranks[index] for index in sorted(of_all_ranks)}


def _search_sets(
    decoder: Decoder[Any],
    features: ImageFeatures,
    decode: DecodeConfig,
    vocabulary: Vocabulary,
    image_ids: Sequence[ImageId],
    count: int,
    consensus: ConsensusPredictor | None,
) -> list[list[Hypothesis]]:
    """Up to `count` hypotheses of each image. Samples after the first are those of other ids, and so other samples."""
    is_ranked = decode.name in RANKED_SEARCHES
    rounds = []
    for number in range(1 if is_ranked else count):
        ids = [image_id if number == 0 else f"{image_id} sample {number}" for image_id in image_ids]
        rounds.append(
            search(
                decoder,
                features,
                decode,
                vocabulary.special,
                n_best=count if is_ranked else 1,
                image_ids=ids,
                phrases=vocabulary.phrases,
                classes=vocabulary.class_preferences,
                consensus=consensus,
            )
        )
    return [[one for of_round in of_image for one in of_round] for of_image in zip(*rounds, strict=True)]


def _on_cpu(hypothesis: Hypothesis, with_attention: bool) -> Hypothesis:
    """The hypothesis with its attention weights on the CPU, or without."""
    attention = hypothesis.attention if with_attention else None
    return replace(hypothesis, attention=None if attention is None else attention.cpu())


def settings_for_sets(decode: DecodeConfig, count: int) -> DecodeConfig:
    """The search with which images get `count` captions: a beam is as wide as that; ConfigError where it finds one."""
    if count == 1 or decode.name == "sample":
        return decode
    if decode.name not in RANKED_SEARCHES:
        raise ConfigError(
            f"captions_per_image={count} needs decode=beam, diverse or sample: decode={decode.name} finds one caption."
        )
    groups = decode.groups if decode.name == "diverse" else 1  # of equal width
    return replace(decode, beam_width=max(decode.beam_width, -(-count // groups) * groups))


def evaluate_model(
    model: CaptioningModel,
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    tokenizer_config: TokenizerConfig,
    dataset: CaptionDataset,
    features: FeatureSource,
    decode: DecodeConfig,
    metric: MetricConfig,
    batch_size: int,
    training_captions: Iterable[str] | None = None,
    meteor: MeteorConfig | None = None,
    captions_per_image: int = 1,
    consensus: ConsensusPredictor | None = None,
) -> Evaluation:
    """Generate captions for a split and score them; the arguments are those of the functions above.

    captions_per_image: where it is more than 1, how different an image's captions are is scored too ("Caption_sets");
    all other scores are those of the best one. ConfigError for a search that finds only one.

    For a split without any reference, no metric is available. With `metric.grounding` the data set must have boxes,
    and the model attention (otherwise ConfigError); where too few captions name an object it is unavailable, too.
    """
    references = encode_references(dataset, tokenizer, vocabulary)
    loss_sum = ReferenceLossSum(dataset, references, len(vocabulary), decode.seed)
    asked, decode = decode, settings_for_sets(decode, captions_per_image)
    found_sets = generate_hypothesis_sets(
        model,
        vocabulary,
        dataset,
        features,
        decode,
        batch_size,
        captions_per_image,
        with_attention=metric.grounding == "generated",
        reference_loss=loss_sum,
        consensus=consensus,
    )
    found = {index: hypotheses[0] for index, hypotheses in found_sets.items()}
    sets = None
    if captions_per_image > 1:
        metric = replace(metric, names=list(dict.fromkeys([*metric.names, CAPTION_SETS])))
        sets = {
            dataset.images[index].image_id: [
                tokenizer.join(vocabulary.decode_caption(one.tokens)) for one in hypotheses
            ]
            for index, hypotheses in found_sets.items()
        }
    words_of = {index: vocabulary.decode_caption(hypothesis.tokens) for index, hypothesis in found.items()}
    captions = {dataset.images[index].image_id: tokenizer.join(words) for index, words in words_of.items()}
    attended: list[AttendedCaption] = []
    if metric.grounding == "generated":
        attended = [
            AttendedCaption(index, words, require_attention(found[index].attention))
            for index, words in words_of.items()
        ]
    elif metric.grounding == "references":
        attended = attention_on_references(model, vocabulary, tokenizer, dataset, features, batch_size, decode.seed)
    scores = broadcast_from_rank0(
        lambda: (
            score_captions(captions, dataset, metric, tokenizer_config, training_captions, meteor, sets)
            if has_references(dataset)
            else without_references(captions, metric)
        )
    )
    skipped = {dataset.images[index].image_id: why for index, why in features.bad.items()}
    grounding = None
    if metric.grounding is not None:
        grounding, why_not = broadcast_from_rank0(lambda: _grounding(attended, dataset, model))
        scores.unavailable.update(why_not)
    return Evaluation(
        split=dataset.split,
        captions=captions,
        scores=scores,
        skipped=skipped,
        signature=evaluation_signature(dataset, scores, decode) | {"skipped_images": len(skipped)},
        notices=(*dataset.notices, *score_notices(scores), *_notice_of_width(asked, decode, captions_per_image)),
        grounding=grounding,
        reference_loss=loss_sum.gather(),
        caption_sets=sets,
    )


def _grounding(
    attended: Sequence[AttendedCaption], dataset: CaptionDataset, model: CaptioningModel
) -> tuple[Grounding | None, dict[str, str]]:
    """The grounding of these captions; where it is not known, an entry for `Scores.unavailable`."""
    try:
        return measure_grounding(attended, dataset, model), {}
    except TooFewObjectWordsError as error:
        return None, {"Grounding": str(error)}


def _notice_of_width(asked: DecodeConfig, used: DecodeConfig, captions_per_image: int) -> list[str]:
    """That the beam was widened, which changes the first captions and so all scores."""
    if asked == used:
        return []
    return [
        f"captions_per_image={captions_per_image} needs a wider beam: all scores are those of "
        f"decode.beam_width={used.beam_width}, not of {asked.beam_width}."
    ]
