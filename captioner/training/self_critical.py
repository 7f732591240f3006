"""Self-critical sequence training: learning from the score of captions that the model says by itself.

Teacher forcing makes the next word of a person's caption likely; what counts in the end is how the captions score that
the model says. For K captions w_1 … w_K of an image, drawn from p(w | image), with rewards r(w) = their score,

    ∇ E[r(w)] = E[(r(w_k) − b_k) ∇ log p(w_k | image)],     b_k = the mean of r(w_j) over j ≠ k

(Rennie et al. 2017, section 3: REINFORCE; their b is the reward of the greedy caption, the mean of the others is that
of Luo 2020, which needs no further search). b_k does not depend on w_k, so it changes no expectation.

The score is CIDEr-D, or it and BLEU-4. Document frequencies are the training captions'. <END> counts as a word of
references and captions, or a model learns that captions may break off ("a dog in a"). Dropout is off in both halves,
drawing and learning, and words that may not be said count in neither: the estimate is exact only under the very
distribution that captions were drawn from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from captioner.config import DecodeConfig
from captioner.data.token_ids import EncodedCaptions
from captioner.decode import sample_captions
from captioner.decode.constraints import mask_forbidden_tokens
from captioner.decode.hypothesis import PartialHypothesis
from captioner.metrics.bleu_reward import BleuReward
from captioner.metrics.cider_reward import CiderReward
from captioner.metrics.document_frequencies import DocumentFrequencies
from captioner.metrics.ngrams import Floats
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS

Reward = Callable[[Sequence[int], Sequence[Sequence[int]]], Floats]
"""(H images, by their number; H captions, with <END> where they reached it) → H rewards."""


def caption_reward(captions: EncodedCaptions, indices: Sequence[int], bleu: float = 0.0) -> Reward:
    """CIDEr-D + `bleu` × BLEU-4 against the captions of the images `indices`, by their number in the data set."""
    references: dict[int | str, Sequence[Sequence[int]]] = {
        index: [(*words, SPECIAL_TOKENS.end) for words in captions[index]] for index in indices
    }
    cider_d = CiderReward(DocumentFrequencies.from_references(references.values()), references)
    if not bleu:
        return cider_d
    bleu_4 = BleuReward(references)
    return lambda images, said: cider_d(images, said) + bleu * bleu_4(images, said)


def self_critical_losses(
    model: CaptioningModel,
    features: ImageFeatures,
    indices: Sequence[int],
    reward: Reward,
    *,
    samples: int,
    max_length: int,
    seed: int,
    images: int,
) -> dict[str, Tensor]:
    """ "loss": minus the mean reward of drawn captions, with the gradient above; "reward": their mean.

    `indices`: the images of `features`, for the reward; `samples`: K; `max_length`: words, as in decoding; `seed`:
    what is drawn for an image depends on it and on the image alone; `images`: of the whole step, where these are
    one portion of it. The model is left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    try:
        drawn = sample_captions(
            model.decoder,
            features,
            SPECIAL_TOKENS,
            count=samples,
            max_length=max_length,
            seed=seed,
            image_ids=indices,
        )
        captions = pack_captions([[one.tokens for one in own] for own in drawn]).to(features.vector.device)
        logits = model(features, captions).logits
    finally:
        model.train(was_training)
    said = [one for own in drawn for one in own]
    heard = [(*one.tokens, SPECIAL_TOKENS.end) if one.finished else one.tokens for one in said]
    rewards = torch.from_numpy(reward([index for index in indices for _ in range(samples)], heard)).view(-1, samples)
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (samples - 1)
    finished = torch.tensor([one.finished for one in said]).view(-1, samples)
    place = (captions.images.cpu(), captions.caption_indices.cpu())
    log_probs = _log_probs_of_captions(logits, captions, finished[place].to(logits.device))
    surrogate = ((rewards - others)[place].to(log_probs) * (log_probs - log_probs.detach())).sum()
    mean = rewards.sum().to(log_probs) / (images * samples)
    return {"loss": -mean - surrogate / (images * samples), "reward": mean}


def _log_probs_of_captions(
    logits: Float[Tensor, "M V"], captions: PackedCaptions, ended: Tensor
) -> Float[Tensor, " N"]:
    """log p of each caption; where one was cut, another word than <END> was chosen in its place."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).clone()
    mask_forbidden_tokens(
        logits, [PartialHypothesis()], DecodeConfig(name="sample"), SPECIAL_TOKENS
    )  # as where they were drawn
    words = -F.cross_entropy(logits, captions.targets, reduction="none")
    cut = ~ended[captions.rows] & (captions.targets == SPECIAL_TOKENS.end)
    words = torch.where(cut, torch.log1p(-words.exp().clamp(max=1 - 1e-6)), words)
    return words.new_zeros(len(captions.images)).index_add(0, captions.rows, words)
