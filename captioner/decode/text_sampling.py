"""Samples text from a language model, token by token, after a prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.config import SamplingConfig
from captioner.decode.constraints import MASKED
from captioner.decode.sampling import keep_top_k, keep_top_p, sample_from_logits, uniform_samples
from captioner.nn.decoders.language_model import LanguageModel
from captioner.text.vocabulary import SPECIAL_TOKENS


@torch.no_grad()
def sample_tokens(model: LanguageModel, prompt: Sequence[int], config: SamplingConfig) -> list[int]:
    """`config.length` token ids that follow <START> and `prompt`, without the prompt.

    Each is sampled from softmax(logits / temperature), limited to the `top_k` most probable tokens and then to the
    smallest set of these with probability `top_p`; special tokens are excluded. The result depends on `seed` alone; no
    other random state is read or changed. Dropout is off; the model's training mode is restored.
    """
    was_training = model.training
    model.eval()
    device = model.embedding.weight.device
    uniform = uniform_samples(config.seed, ["text"], config.length).to(device)
    read = torch.tensor([[SPECIAL_TOKENS.start, *prompt]], device=device)
    logits, hidden = model(read, model.initial(1))
    last, tokens = logits[:, -1], []
    for i in range(config.length):
        token = sample_from_logits(sampling_logits(last, config), uniform[:, i])
        tokens.append(int(token))
        last, hidden = model.step(token, hidden)
    model.train(was_training)
    return tokens


def sampling_logits(logits: Float[Tensor, "N V"], config: SamplingConfig) -> Float[Tensor, "N V"]:
    """The logits to sample from: special tokens, and those that `top_k` and `top_p` exclude, are -inf."""
    scaled = logits / config.temperature
    scaled[:, : SPECIAL_TOKENS.unknown + 1] = MASKED  # special tokens have the first ids of every vocabulary
    if config.top_k:
        scaled = keep_top_k(scaled, config.top_k)
    if config.top_p < 1:
        scaled = keep_top_p(scaled, config.top_p)
    return scaled
