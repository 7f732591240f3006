"""Semantic attention: attention over words for what the image shows (You, Jin, Wang, Fang & Luo 2016, section 3).

The attributes A_1 … A_K of an image are words y^1 … y^K; E embeds words. p_i is the probability of attribute i.

    x_0 = W_xv v                                                                       eq. 1: the image, read once
    α_t^i ∝ p_i^γ exp((E y_{t−1})ᵀ U E y^i)                                            eq. 5 and 6: input attention
    x_t = E y_{t−1} + w_x ∘ Σ_i α_t^i E y^i,   h_t = LSTM(x_t, h_{t−1})                eq. 7
    β_t^i ∝ p_i^γ exp(h_tᵀ V tanh(E y^i))                                              eq. 8: output attention
    p(y_t) = softmax(Eᵀ W_Yh (h_t + w_Y ∘ Σ_i β_t^i V tanh(E y^i)))                    eq. 9
    loss: + λ (g(α) + g(β)),  g(α) = √Σ_i (Σ_t α_t^i)²  +  Σ_t (Σ_i √α_t^i)²           eq. 10 and 11, p = 2, q = 1/2

The first term of g keeps attention from staying at one attribute, the second from spreading over many at once.

The attributes are ImageNet's classes, by the words of `captioner.text.class_words`: the classifier that the encoder's
network was trained with reads the same mean of the grid as the decoder, so the feature cache has all that it needs.
The K words with the highest probabilities are the attributes; words outside the vocabulary are left out. The
classifier and the words of its classes are stored in the checkpoint.

Deliberate differences from the paper, which trains detectors of caption words and keeps the 10 best: γ
(`attribute_prior`), so that an improbable attribute has little weight; 0 is the paper's. V also maps the attributes of
eq. 9, which the paper adds to h as they are (it needs E = H). W_xY of eq. 7 is left out, as the LSTM multiplies x by
weights of its own. λ is a mean over captions beside a mean over words.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import EncoderConfig
from captioner.config.attention_models import SemanticAttentionConfig
from captioner.nn.cells import Hidden
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.encoders.class_head import linear_classifier
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.group_by_image import rows_of_words
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import AuxiliaryLoss, DecoderOutput, DecoderState, DecoderStep, ImageFeatures
from captioner.text.class_words import CLASSES, concepts
from captioner.text.vocabulary import SPECIAL_TOKENS, Vocabulary

WORDS_PER_CLASS = 4  # a class can show several things that captions name


class Attributes(NamedTuple):
    """words: E y^i (B, K, E); matched: U E y^i (B, K, E); shown: V tanh(E y^i) (B, K, H); prior: γ log p_i (B, K).

    exists: (B, K) bool; False where an image has fewer than K attributes.
    """

    words: Tensor
    matched: Tensor
    shown: Tensor
    prior: Tensor
    exists: Tensor


class _RowParts(NamedTuple):
    """hidden: the recurrent state."""

    hidden: Hidden


class SemanticAttentionDecoder(Decoder[DecoderState[Attributes, _RowParts]]):
    """An LSTM that reads the image once, and attends to attribute words before and after each step."""

    class_weight: Tensor
    class_bias: Tensor
    class_words: Tensor

    returns_output = True

    def __init__(self, config: SemanticAttentionConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        embedding_dim, hidden_dim = config.embedding_dim, config.hidden_dim
        self.attributes, self.gamma = config.attributes, config.attribute_prior
        self.sparsity = config.attribute_sparsity  # λ
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)  # E
        self.image = nn.Linear(feature_dim, embedding_dim, bias=False)  # W_xv
        self.match = nn.Linear(embedding_dim, embedding_dim, bias=False)  # U
        self.show = nn.Linear(embedding_dim, hidden_dim, bias=False)  # V
        self.input_scale = nn.Parameter(torch.ones(embedding_dim))  # w_x
        self.output_scale = nn.Parameter(torch.ones(hidden_dim))  # w_Y
        self.stack = RecurrentStack(
            config.cell, embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        self.output = WordOutput(hidden_dim, self.embedding, config.dropout, config.tie_embeddings)  # Eᵀ W_Yh
        self.dropout = Dropout(config.dropout)
        self.register_buffer("class_weight", torch.zeros(CLASSES, feature_dim))
        self.register_buffer("class_bias", torch.zeros(CLASSES))
        self.register_buffer("class_words", torch.zeros(CLASSES, WORDS_PER_CLASS, dtype=torch.int64))  # 0: none
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        for linear in (self.image, self.match, self.show):
            nn.init.xavier_uniform_(linear.weight)

    def prepare_training(self, vocabulary: Vocabulary, encoder: EncoderConfig) -> None:
        """Read the encoder's published classifier, and look up the words of its classes in the vocabulary."""
        classifier = linear_classifier(encoder, "model=semantic_attention")
        self.class_weight.copy_(classifier.weight.detach())
        self.class_bias.copy_(classifier.bias.detach())
        self.class_words.zero_()
        filled = [0] * CLASSES
        for concept in concepts():
            word = next((word for word in concept.words if word in vocabulary), None)
            for number in concept.classes if word is not None else ():
                self.class_words[number, filled[number]] = vocabulary.encode([str(word)])[0]
                filled[number] += 1

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V), and g of both attentions."""
        attributes, hidden = self._read_image(features)
        rows = rows_of_words(captions, len(features.vector))
        words = self.dropout(self.embedding(captions.inputs))  # (M, E)
        x, alpha = self._attend_before(rows.group(words), attributes)
        alpha = rows.ungroup(alpha)
        state = tuple(tensor.index_select(0, captions.images) for tensor in hidden)
        inputs = self.stack.project(rows.ungroup(x))
        h, _ = self.stack.sequence_and_state(inputs, captions.batch_sizes, state)
        shown, beta = self._attend_after(rows.group(h), attributes)
        logits = self.output(rows.ungroup(shown))
        if not self.sparsity:
            return DecoderOutput(logits)
        penalty = attention_penalty(alpha, captions) + attention_penalty(rows.ungroup(beta), captions)
        return DecoderOutput(logits, losses={"attributes": AuxiliaryLoss(penalty, self.sparsity, per="caption")})

    def init_state(self, features: ImageFeatures) -> DecoderState[Attributes, _RowParts]:
        """One row per image, which has read x_0."""
        attributes, hidden = self._read_image(features)
        return DecoderState(attributes, _RowParts(hidden))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState[Attributes, _RowParts]) -> DecoderStep:
        """Read one token per row and predict the next one."""
        attributes = state.image
        images = attributes.words.shape[0]
        words = self.dropout(self.embedding(tokens))
        x, _ = self._attend_before(words.view(images, -1, words.shape[1]), attributes)
        h, hidden = self.stack.step(self.stack.project(x.flatten(0, 1)), state.rows.hidden)
        shown, _ = self._attend_after(h.view(images, -1, h.shape[1]), attributes)
        return DecoderStep(self.output(shown.flatten(0, 1)), DecoderState(attributes, _RowParts(hidden)))

    def _attend_before(
        self, words: Float[Tensor, "B R E"], attributes: Attributes
    ) -> tuple[Float[Tensor, "B R E"], Float[Tensor, "B R K"]]:
        """x of words, and α."""
        alpha = _weights(words @ attributes.matched.transpose(1, 2), attributes)
        return words + self.input_scale * (alpha @ attributes.words), alpha

    def _attend_after(
        self, hidden: Float[Tensor, "B R H"], attributes: Attributes
    ) -> tuple[Float[Tensor, "B R H"], Float[Tensor, "B R K"]]:
        """What the word is predicted from, and β."""
        beta = _weights(hidden @ attributes.shown.transpose(1, 2), attributes)
        return hidden + self.output_scale * (beta @ attributes.shown), beta

    def _read_image(self, features: ImageFeatures) -> tuple[Attributes, Hidden]:
        """The attributes, and the state after x_0."""
        word_ids, probabilities = self.attributes_of(features.vector)
        words = self.embedding(word_ids)
        exists = probabilities > 0
        prior = self.gamma * probabilities.clamp(min=1e-12).log()
        first = self.stack.project(self.image(self.dropout(features.vector)))
        _, hidden = self.stack.step(first, self.stack.initial(first))
        return Attributes(words, self.match(words), self.show(torch.tanh(words)), prior, exists), hidden

    @torch.no_grad()
    def attributes_of(self, vector: Float[Tensor, "B D"]) -> tuple[Int[Tensor, "B K"], Float[Tensor, "B K"]]:
        """The attributes of images: word ids, the most probable first, and probabilities; 0 where there are fewer.

        The probability of a word is the sum of those of its classes.
        """
        classes = (vector.to(self.class_weight.dtype) @ self.class_weight.T + self.class_bias).softmax(1)
        words = classes.new_zeros(vector.shape[0], self.embedding.num_embeddings)
        words.index_add_(1, self.class_words.flatten(), classes.repeat_interleave(WORDS_PER_CLASS, 1))
        words[:, SPECIAL_TOKENS.pad] = 0
        best = words.topk(min(self.attributes, words.shape[1]), dim=1)
        return best.indices, best.values


def _weights(scores: Float[Tensor, "B R K"], attributes: Attributes) -> Float[Tensor, "B R K"]:
    """∝ p^γ exp(scores) over the attributes that exist; zeros where there is none."""
    exists = attributes.exists.unsqueeze(1)
    energies = (scores + attributes.prior.unsqueeze(1)).masked_fill(~exists, torch.finfo(scores.dtype).min)
    return torch.softmax(energies, 2) * exists


def attention_penalty(weights: Float[Tensor, "M K"], captions: PackedCaptions) -> Float[Tensor, ""]:
    """The sum of g over captions, eq. 11, with p = 2 and q = 1/2; weights that are exactly 0 have no gradient."""
    exists = weights > 0
    totals = weights.new_zeros(len(captions.images), weights.shape[1]).index_add(0, captions.rows, weights)
    of_attributes = torch.where(totals.any(1), totals.square().sum(1), 1.0).sqrt() * totals.any(1)
    roots = torch.where(exists, weights, 1.0).sqrt() * exists
    return of_attributes.sum() + roots.sum(1).square().sum()
