"""The grounding of attention: in generated captions of a split, or in its reference captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captioner.data.batches import encode_captions, sequential_batches, tokenize_captions
from captioner.data.dataset import CaptionDataset, CaptionedImage
from captioner.data.features.sources import FeatureSource
from captioner.data.images.decode import image_size
from captioner.data.images.transforms import project_box
from captioner.data.object_names import named_objects, object_names
from captioner.decode.sampling import image_seeds
from captioner.distributed.ranks import all_gather, share
from captioner.errors import ConfigError
from captioner.metrics.grounding_scores import Grounding, ObjectWord, grounding
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import pack_captions
from captioner.text.tokenizers import Tokenizer
from captioner.text.vocabulary import Vocabulary

NEEDS_ATTENTION = (
    "metric.grounding needs a decoder with attention (such as model=attention, updown or transformer), and this "
    "one has none. Choose such a decoder, or set metric.grounding=null."
)
MAX_WORDS = 100  # of a reference caption; longer ones are cut


class AttendedCaption(NamedTuple):
    """A caption of the image `image_index` of a split: its T words, and the attention weights of each, (T, P)."""

    image_index: int
    words: list[str]
    attention: Tensor


def measure_grounding(
    attended: Iterable[AttendedCaption], dataset: CaptionDataset, model: CaptioningModel
) -> Grounding:
    """The grounding of captions on a data set with boxes (see `captioner.data.datasets.registry.add_boxes`).

    A word whose object is outside the image region that the encoder reads counts as a word without a box.
    Raises TooFewObjectWordsError if fewer than two images have words with boxes.
    """
    names = object_names(dataset)
    grid_size, resize = model.encoder.grid_size, model.encoder.transform.resize
    object_words: list[ObjectWord] = []
    without_box = 0
    for image_index, words, attention in attended:
        image = dataset.images[image_index]
        for positions, label in named_objects(words, names):
            boxes = _projected_boxes(image, label, resize)
            if not len(boxes):
                without_box += 1
                continue
            weights = attention[positions].mean(dim=0).reshape(grid_size).double().cpu().numpy()
            object_words.append(ObjectWord(image.image_id, label, weights, boxes))
    return grounding(object_words, without_box)


def _projected_boxes(image: CaptionedImage, label: str, resize: str) -> NDArray[np.float64]:
    """(n, 4) boxes of the image's objects with this label, as fractions of the encoder's input; n may be 0."""
    boxes = [box for box in image.boxes if box.label == label]
    if not boxes:
        return np.zeros((0, 4))
    width, height = image_size(image.path)
    projected = (project_box(box, width, height, resize) for box in boxes)
    return np.array([box for box in projected if box is not None]).reshape(-1, 4)


def attention_on_references(
    model: CaptioningModel,
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    dataset: CaptionDataset,
    features: FeatureSource,
    batch_size: int,
    seed: int,
) -> list[AttendedCaption]:
    """The attention of the model at each word of the reference captions (teacher forcing).

    seed: of hard attention that samples, which samples the locations that generating with this `decode.seed` would.
    With several processes each reads a share of the images, and all return the attention of all images.
    Raises ConfigError if the model has no attention.
    """
    captions = encode_captions(tokenize_captions(dataset, tokenizer), vocabulary, MAX_WORDS)
    images = share(range(len(dataset)))
    batches = [[images[i] for i in batch] for batch in sequential_batches(len(images), batch_size)]
    was_training = model.training
    model.eval()
    attended: list[AttendedCaption] = []
    try:
        with torch.inference_mode():
            for indices, encoded in features.batches(batches):
                references: Sequence[Sequence[Sequence[int]]] = [captions[index] for index in indices]
                if not any(references):
                    continue
                device = encoded.vector.device
                packed = pack_captions(references).to(device)
                seeds = image_seeds(seed, [dataset.images[index].image_id for index in indices]).to(device)
                attention = require_attention(model(encoded._replace(seeds=seeds), packed).attention)
                for row, (image, slot) in enumerate(
                    zip(packed.images.tolist(), packed.caption_indices.tolist(), strict=True)
                ):
                    words = vocabulary.decode(references[image][slot])
                    weights = attention[packed.rows == row][: len(words)].cpu()  # without <END>
                    attended.append(AttendedCaption(indices[image], words, weights))
    finally:
        model.train(was_training)
    return [caption for of_rank in all_gather(attended) for caption in of_rank]


def require_attention(attention: Tensor | None) -> Tensor:
    """`attention` itself; ConfigError if the model has none."""
    if attention is None:
        raise ConfigError(NEEDS_ATTENTION)
    return attention
