"""Adds words for ImageNet's classes to a trained captioner, which has never read them.

A captioner knows only the words of its training captions, and the classifier under its encoder knows a zebra. The usual
word of each concept of `captioner.text.class_words` and its plural are added to the vocabulary. A new word gets, in
every matrix that has one row per word, the mean of the rows of its neighbors: the three concepts of the same kind whose
classes have the most similar weights in the classifier (cosine of the mean weights) and whose words are known. So the
decoder predicts a zebra where it would predict a horse, a cow or a deer, and the class probabilities tell them apart
(`decode.class_weight`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.checkpoint.checkpoint import LoadedCheckpoint
from captioner.errors import CheckpointError
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.encoders.class_head import build_class_head
from captioner.nn.model import CaptioningModel
from captioner.text.class_preferences import ClassPreferences
from captioner.text.class_words import Concept, concepts
from captioner.text.vocabulary import Vocabulary

NEIGHBORS = 3


@dataclass(frozen=True)
class AddedWord:
    """A new word, and the known words from whose rows it is made."""

    word: str
    neighbors: tuple[str, ...]


def add_class_words(loaded: LoadedCheckpoint, *, weight: float) -> tuple[LoadedCheckpoint, list[AddedWord]]:
    """The captioner with words for the classes and `decode.class_weight` = `weight`, and which words are new.

    Its calibration is dropped, because another search finds other captions. CheckpointError for an encoder without a
    published classifier, and for a vocabulary without any word of the table.
    """
    head = build_class_head(loaded.settings.encoder, loaded.model.encoder, download=True)
    if head is None:
        raise CheckpointError(
            f"{loaded.path} has the encoder {loaded.settings.encoder.name} with "
            f"encoder.weights={loaded.settings.encoder.weights}, which has no published classifier: no class words."
        )
    if not ClassPreferences(loaded.vocabulary).has_words:
        raise CheckpointError(
            f"{loaded.path} (tokenizer={loaded.settings.tokenizer.name}) has no word of captioner/text/class_words.txt,"
            " whose words are English and undivided: no class words."
        )
    added = choose_words(loaded.vocabulary, head.last.weight)
    vocabulary = Vocabulary([*loaded.vocabulary.tokens[4:], *(word.word for word in added)])
    vocabulary.phrases = loaded.vocabulary.phrases
    decoder = build_decoder(loaded.settings.model, len(vocabulary), loaded.model.encoder.feature_dim)
    rows = [loaded.vocabulary.encode(word.neighbors) for word in added]
    decoder.load_state_dict(_grown(loaded.model.decoder.state_dict(), decoder.state_dict(), rows))
    model = CaptioningModel(loaded.model.encoder, decoder).eval()
    settings = replace(loaded.settings, decode=replace(loaded.settings.decode, class_weight=weight))
    return replace(loaded, model=model, vocabulary=vocabulary, settings=settings, calibration=None), added


def choose_words(vocabulary: Vocabulary, classifier: Float[Tensor, "1000 D"]) -> list[AddedWord]:
    """The words that `vocabulary` lacks, in the order of the table."""
    table = concepts()
    means = torch.stack([classifier[list(concept.classes)].mean(0) for concept in table]).double()
    unit = means / means.norm(dim=1, keepdim=True)
    similarity = unit @ unit.T
    added: list[AddedWord] = []
    for position, concept in enumerate(table):
        for plural, word in enumerate(_forms(concept)):
            if word in vocabulary or any(word == other.word for other in added):
                continue
            order = similarity[position].argsort(descending=True, stable=True).tolist()
            candidates = (_form(table[other], plural) for other in order if table[other].kind == concept.kind)
            known = list(dict.fromkeys(other for other in candidates if other in vocabulary))
            if known:
                added.append(AddedWord(word, tuple(known[:NEIGHBORS])))
    return added


def _forms(concept: Concept) -> Sequence[str]:
    """The usual word and its plural, if the table has one."""
    return [word for word in (_form(concept, 0), _form(concept, 1)) if word]


def _form(concept: Concept, plural: int) -> str:
    """The usual word, or its plural: the second word where it begins like the first; "" where there is none."""
    if not plural:
        return concept.word
    second = concept.words[1] if len(concept.words) > 1 else ""
    return second if second[:3] == concept.word[:3] and second.endswith("s") else ""


def _grown(old: dict[str, Tensor], new: dict[str, Tensor], neighbors: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """The weights of a decoder with more words: tensors with one row per word get the means of the neighbors' rows."""
    grown = {}
    for name, tensor in old.items():
        if tensor.shape == new[name].shape:
            grown[name] = tensor
            continue
        rows = [tensor[list(ids)].mean(0) for ids in neighbors]
        grown[name] = torch.cat([tensor, torch.stack(rows)])
        if grown[name].shape != new[name].shape:
            raise CheckpointError(f"{name} has a shape that depends on the vocabulary in a way that is not known.")
    return grown
