"""Unlikelihood training: words that a caption has already become less probable (Welleck et al. 2020, section 4).

For the words x_1 … x_{t−1} that the decoder has read before it predicts x_t, the candidates are (equation 5)

    C_t = {x_1, …, x_{t−1}} \\ {x_t}

and the loss of the token is α times (equation 4)

    −Σ_{c ∈ C_t} log(1 − p(c | x_<t, image)) − log p(x_t | x_<t, image)

of which the last term is the cross-entropy, as always with weight 1. A word counts once, however often it was read.
<START> is no candidate, nor is <UNK>, which stands for different words; <END> is never read.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.nn.packing import PackedCaptions
from captioner.text.vocabulary import SPECIAL_TOKENS

_NO_CANDIDATES = (SPECIAL_TOKENS.pad, SPECIAL_TOKENS.start, SPECIAL_TOKENS.end, SPECIAL_TOKENS.unknown)


def unlikelihood(logits: Float[Tensor, "M V"], captions: PackedCaptions) -> Float[Tensor, ""]:
    """Σ over the M tokens of −Σ_{c ∈ C_t} log(1 − p(c)), in nats."""
    tokens, words = negative_candidates(captions)
    log_probs = logits.log_softmax(dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))
    log_p = log_probs[tokens, words]
    # Only the most probable word can have p near 1, where 1 − p loses its digits: there it is the sum of the others.
    top = log_probs.detach().argmax(dim=1)[tokens] == words
    log_rest = log_probs[tokens[top]].scatter(1, words[top].unsqueeze(1), -torch.inf).logsumexp(dim=1)
    return -torch.log1p(-log_p[~top].exp()).sum() - log_rest.sum()


def negative_candidates(captions: PackedCaptions) -> tuple[Int[Tensor, " K"], Int[Tensor, " K"]]:
    """The pairs (token, c) with c ∈ C_t: positions in the packed order, and words."""
    steps, device = captions.steps_of_tokens(), captions.inputs.device
    read = torch.full((len(captions.images), len(captions.batch_sizes)), SPECIAL_TOKENS.start, device=device)
    read[captions.rows, steps] = captions.inputs
    special = torch.isin(read, torch.tensor(_NO_CANDIDATES, device=device))
    again = (read.unsqueeze(2) == read.unsqueeze(1)).tril(diagonal=-1).any(dim=2)  # (N, T): it was read before
    candidates = ~special & ~again
    # Token (row, t) has read the words of steps 0 … t of its row.
    before = torch.arange(len(captions.batch_sizes), device=device) <= steps.unsqueeze(1)  # (M, T)
    words = read[captions.rows]
    is_candidate = candidates[captions.rows] & before & (words != captions.targets.unsqueeze(1))
    tokens, places = is_candidate.nonzero(as_tuple=True)
    return tokens, words[tokens, places]
