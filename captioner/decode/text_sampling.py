"""Text drawn from a language model, token by token, after a prompt."""

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
    """`config.length` tokens that follow <START> and `prompt`, which is read but not given back.

    Each is drawn from softmax(logits / temperature), among the `top_k` most probable, then among the smallest set
    of these with probability `top_p`; special tokens are never drawn. What is drawn depends on `seed` alone, and no
    other random state is used or moved. Dropout is off; the model is left in the mode it was in.
    """
    was_training = model.training
    model.eval()
    device = model.embedding.weight.device
    uniform = uniform_samples(config.seed, ["text"], config.length).to(device)
    read = torch.tensor([[SPECIAL_TOKENS.start, *prompt]], device=device)
    logits, hidden = model(read, model.initial(1))
    last, tokens = logits[:, -1], []
    for i in range(config.length):
        token = sample_from_logits(allowed(last, config), uniform[:, i])
        tokens.append(int(token))
        last, hidden = model.step(token, hidden)
    model.train(was_training)
    return tokens


def allowed(logits: Float[Tensor, "N V"], config: SamplingConfig) -> Float[Tensor, "N V"]:
    """The logits that are drawn from: special tokens and what `top_k` and `top_p` cut at -inf."""
    scaled = logits / config.temperature
    scaled[:, : SPECIAL_TOKENS.unknown + 1] = MASKED  # they are the first numbers of every vocabulary
    if config.top_k:
        scaled = keep_top_k(scaled, config.top_k)
    if config.top_p < 1:
        scaled = keep_top_p(scaled, config.top_p)
    return scaled
