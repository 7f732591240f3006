"""Where a model looked while it named the objects of a split: in captions of its own, or in those that people wrote."""

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
    "metric.grounding asks where a model looks, and this one does not look: it is for model=attention, "
    "hard_attention and adaptive_attention. Set metric.grounding=null."
)
LONGEST = 100  # words of a person's caption that are read


class AttendedCaption(NamedTuple):
    """One caption of a split's image, counted from 0: its words, and (T, P), where was looked at each."""

    image_index: int
    words: list[str]
    attention: Tensor


def measure_grounding(looked: Iterable[AttendedCaption], dataset: CaptionDataset, model: CaptioningModel) -> Grounding:
    """The score of captions over a data set with boxes (see `data.build.add_boxes`).

    A word whose object lies outside of what the model's encoder saw counts as one without a box.
    """
    names = object_names(dataset)
    grid_size, resize = model.encoder.grid_size, model.encoder.transform.resize
    naming: list[ObjectWord] = []
    missed = 0
    for image_index, words, attention in looked:
        image = dataset.images[image_index]
        for where, label in named_objects(words, names):
            boxes = _boxes_seen(image, label, resize)
            if not len(boxes):
                missed += 1
                continue
            weights = attention[where].mean(dim=0).reshape(grid_size).double().cpu().numpy()
            naming.append(ObjectWord(image.image_id, label, weights, boxes))
    return grounding(naming, missed)


def _boxes_seen(image: CaptionedImage, label: str, resize: str) -> NDArray[np.float64]:
    """(n, 4) of the image's objects of this label; n may be 0."""
    own = [box for box in image.boxes if box.label == label]
    if not own:
        return np.zeros((0, 4))
    width, height = image_size(image.path)
    seen = (project_box(box, width, height, resize) for box in own)
    return np.array([box for box in seen if box is not None]).reshape(-1, 4)


def attention_on_references(
    model: CaptioningModel,
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    dataset: CaptionDataset,
    features: FeatureSource,
    batch_size: int,
    seed: int,
) -> list[AttendedCaption]:
    """Where the model looks at each word of people's captions, were it to say them (teacher-forced).

    seed: for hard attention that draws, which then draws what it would while captioning with this `decode.seed`.
    Of several processes each reads its part of the images, and all are given everything.
    """
    captions = encode_captions(tokenize_captions(dataset, tokenizer), vocabulary, LONGEST)
    images = share(range(len(dataset)))
    batches = [[images[i] for i in batch] for batch in sequential_batches(len(images), batch_size)]
    was_training = model.training
    model.eval()
    looked: list[AttendedCaption] = []
    try:
        with torch.inference_mode():
            for indices, encoded in features.batches(batches):
                own: Sequence[Sequence[Sequence[int]]] = [captions[index] for index in indices]
                if not any(own):
                    continue
                device = encoded.vector.device
                packed = pack_captions(own).to(device)
                seeds = image_seeds(seed, [dataset.images[index].image_id for index in indices]).to(device)
                attention = attention_of(model(encoded._replace(seeds=seeds), packed).attention)
                for row, (image, slot) in enumerate(
                    zip(packed.images.tolist(), packed.caption_indices.tolist(), strict=True)
                ):
                    words = vocabulary.decode(own[image][slot])
                    of_row = attention[packed.rows == row][: len(words)].cpu()  # without that of <END>
                    looked.append(AttendedCaption(indices[image], words, of_row))
    finally:
        model.train(was_training)
    return [one for own in all_gather(looked) for one in own]


def attention_of(attention: Tensor | None) -> Tensor:
    """The attention of a model that has some; ConfigError otherwise."""
    if attention is None:
        raise ConfigError(NEEDS_ATTENTION)
    return attention
