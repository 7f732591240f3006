"""Scheduled sampling: some of the words that the decoder reads are its own (Bengio, Vinyals, Jaitly & Shazeer 2015).

Under teacher forcing a decoder reads reference words only, and never learns to go on after a word of its own. Here each
word y_{t−1} that it reads is the reference's with probability ε, which falls from step to step
(`ObjectiveConfig.reference_share`), and otherwise its own: sampled from p(y_{t−1} | words read before, image), or the
most probable one (section 2.4). The targets stay those of the reference.

The own words are chosen before the step, without gradient and without dropout, as a search would choose them. The step
itself then is ordinary training on other inputs, with all its speed. Two ways to choose them:

    step by step    each own word depends on the words read before it, own ones included, as in the paper
    two passes      from one teacher-forced pass, for a decoder whose `forward` computes all steps together, such as
                    the transformer, whom it would cost its speed to go step by step (Mihaylova & Martins 2019)

<PAD>, <START> and <UNK> are never chosen, as in a search. A decoder does not read <END>, so where it would choose that,
the reference word stays. Which words are the model's own, and what is sampled, depends on the seed, the epoch and the
caption alone: not on the micro-batch or the number of processes, and a resumed run chooses as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.config.objective import ARGMAX
from captioner.data.batches import mix_seeds
from captioner.decode.constraints import mask_forbidden_tokens
from captioner.decode.hypothesis import PartialHypothesis
from captioner.decode.sampling import sample_from_logits
from captioner.decode.scores import at_least_float32, top_tokens
from captioner.nn.layers.counter_rng import uniform
from captioner.nn.layers.linear import forget_changed_copies
from captioner.nn.model import CaptioningModel
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import ImageFeatures, repeat_rows, select_images
from captioner.text.vocabulary import SPECIAL_TOKENS


def with_own_words(
    model: CaptioningModel,
    features: ImageFeatures,
    captions: PackedCaptions,
    *,
    reference_share: float,
    own_words: str,
    seed: int,
    image_ids: Sequence[int],
) -> PackedCaptions:
    """`captions` with inputs of which a share of 1 − ε are the model's own words; ε: `reference_share`.

    own_words: "sample" or "argmax"; image_ids: one per image, which with the seed decide what is sampled. With ε = 1
    nothing is computed. Restores the model's mode.
    """
    if reference_share >= 1:
        return captions
    keys = [[mix_seeds(seed, image, index) for index in range(captions.captions_per_image)] for image in image_ids]
    rows = torch.tensor(keys)[captions.images.cpu(), captions.caption_indices.cpu()].to(captions.rows.device)
    streams, steps = rows[captions.rows], captions.steps_of_tokens()
    replaced = (uniform(streams, 2 * steps) >= reference_share) & (steps > 0)  # <START> is always read
    if not replaced.any():
        return captions
    random = None if own_words == ARGMAX else uniform(streams, 2 * steps + 1)
    if features.seeds is None:  # for a decoder that samples where to attend
        seeds = [mix_seeds(seed, image) for image in image_ids]
        features = features._replace(seeds=torch.tensor(seeds, device=features.vector.device))
    choose = _two_passes if model.decoder.parallel_over_steps else _step_by_step
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            inputs = choose(model, features, captions, replaced, random)
    finally:
        model.train(was_training)
    return captions._replace(inputs=inputs.clone())  # an ordinary tensor, which autograd accepts


def _two_passes(
    model: CaptioningModel,
    features: ImageFeatures,
    captions: PackedCaptions,
    replaced: Bool[Tensor, " M"],
    random: Float[Tensor, " M"] | None,
) -> Int[Tensor, " M"]:
    """The inputs, with words chosen from the teacher-forced logits where `replaced`."""
    places = replaced.nonzero().squeeze(1)
    starts = captions.starts()[captions.steps_of_tokens()[places] - 1]  # of the steps that predict these words
    before = starts + captions.rows[places]
    logits = model(features, captions).logits[before]
    own = _choose(logits, None if random is None else random[places])
    inputs = captions.inputs.clone()
    inputs[places] = torch.where(own == SPECIAL_TOKENS.end, inputs[places], own)
    return inputs


def _step_by_step(
    model: CaptioningModel,
    features: ImageFeatures,
    captions: PackedCaptions,
    replaced: Bool[Tensor, " M"],
    random: Float[Tensor, " M"] | None,
) -> Int[Tensor, " M"]:
    """The inputs, with words chosen where `replaced` given the inputs before them.

    The R rows of an image are adjacent and share what is computed once per image. Images whose last replaced word comes
    first are finished first.
    """
    decoder, images, per_image = model.decoder, features.vector.shape[0], captions.captions_per_image
    forget_changed_copies(decoder)
    longest, device = len(captions.batch_sizes), captions.inputs.device
    place = (
        captions.images[captions.rows],
        captions.caption_indices[captions.rows],
        captions.steps_of_tokens(),
    )
    words = torch.full((images, per_image, longest), SPECIAL_TOKENS.start, device=device)
    is_own = torch.zeros(images, per_image, longest, dtype=torch.bool, device=device)
    words[place], is_own[place] = captions.inputs, replaced
    last = (is_own * torch.arange(longest, device=device)).amax(dim=(1, 2))  # step of an image's last replaced word
    order = last.argsort(descending=True, stable=True)
    words, is_own = words[order].flatten(0, 1), is_own[order].flatten(0, 1)
    draws = None
    if random is not None:
        draws = random.new_zeros(images, per_image, longest)
        draws[place] = random
        draws = draws[order].flatten(0, 1)
    active = [int((last > step).sum()) for step in range(longest)]
    state = repeat_rows(decoder.init_state(features.images(lambda part: part[order[: active[0]]])), per_image)
    for step in range(int(last.max())):
        count = active[step]
        rows = count * per_image
        if step and count < active[step - 1]:
            state = select_images(state, torch.arange(count, device=device), torch.arange(rows, device=device))
        logits, state, _ = decoder.step(words[:rows, step], state)
        own = _choose(logits, None if draws is None else draws[:rows, step + 1])
        is_read = is_own[:rows, step + 1] & (own != SPECIAL_TOKENS.end)
        words[:rows, step + 1] = torch.where(is_read, own, words[:rows, step + 1])
    return words.view(images, per_image, longest)[order.argsort()][place]


def _choose(logits: Float[Tensor, "N V"], random: Float[Tensor, " N"] | None) -> Int[Tensor, " N"]:
    """One token per row that a search may choose: sampled with the numbers `random`, or the most probable one."""
    logits = at_least_float32(logits)
    mask_forbidden_tokens(logits, [PartialHypothesis()], DecodeConfig(name="sample"), SPECIAL_TOKENS)
    return top_tokens(logits, 1)[1].squeeze(1) if random is None else sample_from_logits(logits, random)
