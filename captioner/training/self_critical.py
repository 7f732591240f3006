"""Self-critical sequence training (SCST): reinforcement learning from the scores of sampled captions.

Cross-entropy training makes the next word of a reference caption probable, while captions are judged by the scores of
whole generated captions. For K captions w_1 … w_K of an image, sampled from p(w | image), with rewards r(w) = their
scores,

    ∇ E[r(w)] = E[(r(w_k) − b_k) ∇ log p(w_k | image)],     b_k = the mean of r(w_j) over j ≠ k

(Rennie et al. 2017, section 3: REINFORCE. Their baseline b is the reward of the greedy caption, `baseline="greedy"`;
the mean of the other samples is that of Luo 2020, and needs no further search.) b_k does not depend on w_k, so it does
not bias the gradient. The other methods have other losses: `structure_losses.py`.

The reward is CIDEr-D + bleu × BLEU-4 + meteor × METEOR − fluency × [the caption has an implausible phrase] − length ×
|words − mean words of the references|, with the document frequencies and the phrase statistics of the training
captions. In CIDEr-D and BLEU <END> counts as a word of references and captions; otherwise a model learns to break
captions off ("a dog in a"). Dropout is off while captions are sampled and while their gradient is computed, and
forbidden tokens have probability 0 in both: the estimate is unbiased only for the distribution that the captions were
sampled from.

With `cross_entropy_weight` γ the loss is that of self-critical training + γ × that of cross-entropy training, with
dropout in the latter. (Paulus et al. 2018, equation 16, has the weights 1 − γ and γ, to keep summaries readable.)
`kl_weight`: `anchor.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from captioner.config import DecodeConfig, RewardConfig
from captioner.config.reward import GREEDY, SAMPLE, SCST
from captioner.data.token_ids import EncodedCaptions
from captioner.decode import sample_captions, search
from captioner.decode.constraints import mask_forbidden_tokens
from captioner.decode.hypothesis import PartialHypothesis
from captioner.decode.sampling import SampledCaption
from captioner.metrics.bleu_reward import BleuReward
from captioner.metrics.cider_reward import CiderReward
from captioner.metrics.document_frequencies import DocumentFrequencies
from captioner.metrics.meteor.meteor_metric import shared_meteor
from captioner.metrics.meteor_reward import MeteorReward
from captioner.metrics.ngrams import Floats
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import PackedCaptions, pack_captions
from captioner.nn.types import ImageFeatures
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from captioner.training.anchor import Anchor, divergence
from captioner.training.structure_losses import inverse, repeated, structure_loss

Reward = Callable[[Sequence[int], Sequence[Sequence[int]]], Floats]
"""(H image indices; H captions as token ids, with <END> unless they were cut off) → H rewards."""


def caption_reward(
    captions: EncodedCaptions,
    indices: Sequence[int],
    bleu: float = 0.0,
    fluency: float = 0.0,
    phrases: PhraseStatistics | None = None,
    meteor: tuple[float, Reward] | None = None,
    length: float = 0.0,
) -> Reward:
    """The reward CIDEr-D + `bleu` × BLEU-4 − `fluency` for a caption with an implausible phrase − `length` per word.

    The last are the words that a caption is shorter or longer than the mean of its image's references.

    The references are the captions of the images `indices` of the data set. phrases: the phrase statistics; None: those
    of all `captions`. A caption that was cut off counts there as one that ends in its last word. meteor: the weight of
    METEOR, and METEOR as a reward (`meteor_reward`).
    """
    references: dict[int | str, Sequence[Sequence[int]]] = {
        index: [(*tokens, SPECIAL_TOKENS.end) for tokens in captions[index]] for index in indices
    }
    terms: list[tuple[float, Reward]] = [
        (1.0, CiderReward(DocumentFrequencies.from_references(references.values()), references))
    ]
    if bleu:
        terms.append((bleu, BleuReward(references)))
    if fluency:
        phrases = phrases or PhraseStatistics.from_flat(
            captions.token_ids, captions.caption_offsets, SPECIAL_TOKENS.end
        )
        terms.append((-fluency, _implausible(phrases)))
    if length:
        terms.append((-length, _words_off({index: captions[index] for index in indices})))
    if meteor is not None:
        terms.append(meteor)

    def reward(images: Sequence[int], generated: Sequence[Sequence[int]]) -> Floats:
        total: Floats = sum(weight * term(images, generated) for weight, term in terms) + np.zeros(len(generated))
        return total

    return reward


def _implausible(phrases: PhraseStatistics) -> Reward:
    """1 for a caption with an implausible phrase, else 0."""
    end = SPECIAL_TOKENS.end

    def flags(images: Sequence[int], generated: Sequence[Sequence[int]]) -> Floats:
        words = (caption[:-1] if caption and caption[-1] == end else caption for caption in generated)
        return np.array([bool(phrases.find(caption)) for caption in words], np.float64)

    return flags


def _words_off(references: Mapping[int, Sequence[Sequence[int]]]) -> Reward:
    """|words of the caption − mean words of its image's references|, without <END>."""
    means = {index: sum(map(len, of_image)) / len(of_image) for index, of_image in references.items()}
    end = SPECIAL_TOKENS.end

    def distances(images: Sequence[int], generated: Sequence[Sequence[int]]) -> Floats:
        words = [len(caption) - (end in caption[-1:]) for caption in generated]
        return np.abs(np.array(words, np.float64) - [means[image] for image in images])

    return distances


def meteor_reward(tokenized: Iterable[Iterable[Sequence[str]]], vocabulary: Vocabulary) -> MeteorReward:
    """METEOR against the captions `tokenized` of the data set's images. Raises MetricUnavailable."""
    references: dict[int | str, Sequence[str]] = {
        index: [" ".join(tokens) for tokens in of_image] for index, of_image in enumerate(tokenized)
    }
    special = set(astuple(SPECIAL_TOKENS))
    return MeteorReward(
        shared_meteor(), references, lambda ids: vocabulary.decode(token for token in ids if token not in special)
    )


def self_critical_losses(
    model: CaptioningModel,
    features: ImageFeatures,
    indices: Sequence[int],
    reward: Reward,
    *,
    config: RewardConfig,
    max_length: int,
    seed: int,
    images: int,
    anchor: Anchor | None = None,
) -> dict[str, Tensor]:
    """The losses of a micro-batch, by name: "loss", minus the mean reward with the gradient above, and "reward".

    indices: the data-set indices of the B images of `features`; config: the method, with its K captions per image;
    max_length: the maximum number of words; seed: the samples of an image depend on the seed and the image alone;
    images: the number of images of the whole step, over which the losses are means; anchor: for `kl_weight`, which
    adds the loss "kl". Restores the model's mode.
    """
    was_training = model.training
    model.eval()
    try:
        candidates = _candidates(model, features, indices, config, max_length, seed)
        captions = pack_captions([[caption.tokens for caption in of_image] for of_image in candidates]).to(
            features.vector.device
        )
        logits = _allowed(model(features, captions).logits)
        greedy = None
        if config.method == SCST and config.baseline == GREEDY:
            greedy = reward(indices, [_heard(one) for one in _greedy(model, features, max_length)])
    finally:
        model.train(was_training)
    count = len(candidates[0])
    flat = [caption for of_image in candidates for caption in of_image]
    rewards = torch.from_numpy(reward([index for index in indices for _ in range(count)], list(map(_heard, flat))))
    rewards = rewards.view(-1, count)
    finished = torch.tensor([caption.finished for caption in flat]).view(-1, count)
    order = (captions.images.cpu(), captions.caption_indices.cpu())
    log_probs = _log_probs_of_captions(logits, captions, finished[order].to(logits.device))
    mean = rewards.sum().to(log_probs) / (images * count)
    losses = {"loss": -mean, "reward": mean}
    if config.method != SCST:
        table = log_probs[inverse(order, count).to(log_probs.device)].view(-1, count)
        repeats = repeated(candidates).to(table.device)
        losses["loss"] = structure_loss(config.method, table, rewards.to(table), repeats, config.sharpness) / images
    else:
        others = (rewards.sum(dim=1, keepdim=True) - rewards) / max(count - 1, 1)
        baselines = others if greedy is None else torch.from_numpy(greedy).unsqueeze(1)
        surrogate = ((rewards - baselines)[order].to(log_probs) * (log_probs - log_probs.detach())).sum()
        losses["loss"] = losses["loss"] - surrogate / (images * count)
    if anchor is not None:
        kl = divergence(logits, _allowed(anchor.logits(features, captions))) / (images * count)
        losses |= {"kl": kl.detach(), "loss": losses["loss"] + config.kl_weight * kl}
    return losses


def _candidates(
    model: CaptioningModel,
    features: ImageFeatures,
    indices: Sequence[int],
    config: RewardConfig,
    max_length: int,
    seed: int,
) -> list[list[SampledCaption]]:
    """K captions of each image: samples, or the n best of a beam search."""
    if config.candidates == SAMPLE:
        return sample_captions(
            model.decoder,
            features,
            SPECIAL_TOKENS,
            count=config.samples,
            max_length=max_length,
            seed=seed,
            image_ids=indices,
        )
    decode = DecodeConfig(name="beam", beam_width=config.samples, max_length=max_length)
    with torch.inference_mode():
        found = search(model.decoder, features, decode, SPECIAL_TOKENS, n_best=config.samples)
    most = max(map(len, found))
    # A caption that stands there again counts once (`repeated`).
    return [
        [SampledCaption(of_image[min(k, len(of_image) - 1)].tokens, of_image[min(k, len(of_image) - 1)].finished)
         for k in range(most)]
        for of_image in found
    ]  # fmt: skip


def _greedy(model: CaptioningModel, features: ImageFeatures, max_length: int) -> list[SampledCaption]:
    """The greedy caption of each image, with the tokens that may be sampled."""
    with torch.inference_mode():
        found = search(model.decoder, features, DecodeConfig(name="greedy", max_length=max_length), SPECIAL_TOKENS)
    return [SampledCaption(best.tokens, best.finished) for best, *_ in found]


def _heard(caption: SampledCaption) -> tuple[int, ...]:
    """The tokens that are rewarded: with <END>, unless the caption was cut off."""
    return (*caption.tokens, SPECIAL_TOKENS.end) if caption.finished else caption.tokens


def _allowed(logits: Float[Tensor, "M V"]) -> Float[Tensor, "M V"]:
    """`logits` at full precision, masked as they are where captions are sampled."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).clone()
    mask_forbidden_tokens(logits, [PartialHypothesis()], DecodeConfig(name="sample"), SPECIAL_TOKENS)
    return logits


def _log_probs_of_captions(
    logits: Float[Tensor, "M V"], captions: PackedCaptions, finished: Bool[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """log p of each caption. One that was cut off ends with log(1 − p(<END>)): another token was sampled there."""
    log_probs = -F.cross_entropy(logits, captions.targets, reduction="none")
    cut = ~finished[captions.rows] & (captions.targets == SPECIAL_TOKENS.end)
    log_probs = torch.where(cut, torch.log1p(-log_probs.exp().clamp(max=1 - 1e-6)), log_probs)
    return log_probs.new_zeros(len(captions.images)).index_add(0, captions.rows, log_probs)
