"""Generate captions for every image of a split with a model, and score them against its reference captions.

The search sees no reference. Only the loss on the references (`reference_loss`) is measured under teacher forcing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from captioner.config import DecodeConfig, MeteorConfig, MetricConfig, TokenizerConfig
from captioner.data.batches import sequential_batches
from captioner.data.dataset import CaptionDataset, ImageId
from captioner.data.features.sources import FeatureSource
from captioner.decode import Hypothesis, search
from captioner.distributed.ranks import all_gather, all_gather_union, broadcast_from_rank0, is_main_process, share
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
from captioner.metrics.format import score_notices
from captioner.nn.model import CaptioningModel
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
        dataset.images[index].image_id: tokenizer.join(vocabulary.decode(hypothesis.tokens))
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
    """Index of the image in the split → the best hypothesis, for every image that can be read.

    with_attention: keep the attention weights, on the CPU. reference_loss: the loss on the references is added to it,
    from the same features, because encoding the images again would take longer than the loss. With several processes
    each decodes a share of the images, and all return the hypotheses of all images.
    """
    all_gather_union(features.bad)
    was_training = model.training
    model.eval()
    best: dict[int, Hypothesis] = {}
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
                found = search(
                    model.decoder,
                    batch,
                    decode,
                    vocabulary.special,
                    image_ids=ids,
                    phrases=vocabulary.phrases,
                    classes=vocabulary.class_preferences,
                )
                for index, hypotheses in zip(indices, found, strict=True):
                    attention = hypotheses[0].attention if with_attention else None
                    best[index] = replace(hypotheses[0], attention=None if attention is None else attention.cpu())
                if reference_loss is not None:
                    reference_loss.add(model.decoder, indices, batch)
                progress.update(len(indices))
    finally:
        model.train(was_training)
    all_gather_union(features.bad)
    of_all_ranks = {index: hypothesis for of_rank in all_gather(best) for index, hypothesis in of_rank.items()}
    return {index: of_all_ranks[index] for index in sorted(of_all_ranks)}


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
) -> Evaluation:
    """Generate captions for a split and score them; the arguments are those of the functions above.

    For a split without any reference, no metric is available. With `metric.grounding` the data set must have boxes,
    and the model attention (otherwise ConfigError).
    """
    references = encode_references(dataset, tokenizer, vocabulary)
    loss_sum = ReferenceLossSum(dataset, references, len(vocabulary), decode.seed)
    found = generate_hypotheses(
        model,
        vocabulary,
        dataset,
        features,
        decode,
        batch_size,
        with_attention=metric.grounding == "generated",
        reference_loss=loss_sum,
    )
    words_of = {index: vocabulary.decode(hypothesis.tokens) for index, hypothesis in found.items()}
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
            score_captions(captions, dataset, metric, tokenizer_config, training_captions, meteor)
            if has_references(dataset)
            else without_references(captions, metric)
        )
    )
    skipped = {dataset.images[index].image_id: why for index, why in features.bad.items()}
    return Evaluation(
        split=dataset.split,
        captions=captions,
        scores=scores,
        skipped=skipped,
        signature=evaluation_signature(dataset, scores, decode) | {"skipped_images": len(skipped)},
        notices=(*dataset.notices, *score_notices(scores)),
        grounding=None
        if metric.grounding is None
        else broadcast_from_rank0(lambda: measure_grounding(attended, dataset, model)),
        reference_loss=loss_sum.gather(),
    )
