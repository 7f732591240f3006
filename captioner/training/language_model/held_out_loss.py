"""The held-out loss of a language model: bits per token, with every token scored once."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from captioner.nn.decoders.language_model import LanguageModel
from captioner.text.vocabulary import SPECIAL_TOKENS

WINDOW = 256  # tokens per forward pass; the results do not depend on it


@torch.no_grad()
def token_bits(model: LanguageModel, tokens: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """−log₂ p(token_i | <START>, token_1 … token_{i−1}) of every token, on the CPU, float32.

    One stream from the zero state; the state is carried from the first token to the last. Dropout is off, and the mode
    of the model is restored.
    """
    was_training = model.training
    model.eval()
    device = model.embedding.weight.device
    inputs = torch.cat([tokens.new_tensor([SPECIAL_TOKENS.start]), tokens[:-1]]).to(device)
    targets = tokens.to(device)
    hidden, bits = model.initial(1), []
    for window, target in zip(torch.split(inputs, WINDOW), torch.split(targets, WINDOW), strict=True):
        logits, hidden = model(window[None], hidden)
        bits.append(F.cross_entropy(logits[0], target, reduction="none") / math.log(2))
    model.train(was_training)
    return torch.cat(bits).cpu()


def mean_bits(model: LanguageModel, tokens: Int[Tensor, " N"]) -> float:
    """Bits per token: the mean of `token_bits`, summed in float64."""
    return float(token_bits(model, tokens).double().mean())
