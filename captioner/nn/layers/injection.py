"""The image vector's way into a recurrent decoder: the injections of Tanti, Gatt & Camilleri (2018) and the lecture.

init    h_0 = tanh(W v): the initial state                                 Xu et al. 2015, section 3.1.2
pre     W v is read like a word before <START>                             Vinyals et al. 2015, eq. 10
par     W v is added to the gates at every step                            CS231n 2016: Wih·v
first   W v is added to the gates at the first step only                   Karpathy & Fei-Fei 2015, eq. 13
merge   tanh(W v) is concatenated to h before the output layer; the        Mao et al. 2015; Tanti et al. 2018
        recurrence never sees v

With pre, par and first, W v may also be W v + b ("affine"), or batch normalized ("batch_norm"; Ioffe & Szegedy 2015):
γ (W v − μ)/√(s² + 10⁻⁵) + β with the mean μ and variance s² of the batch, in eval mode their running means. A batch of
one image has no variance and uses the running means too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.nn.cells import Hidden
from captioner.nn.layers.stack import RecurrentStack


class InjectedImage(NamedTuple):
    """What B images contribute to the decoder; a part is None where the injection does not use it.

    hidden: the initial state, tensors (B, H).
    per_step: (B, C), added to the gates at every step.
    first_step: (B, C), added to the gates at the first step.
    output_concat: (B, H), concatenated to each output.
    """

    hidden: Hidden
    per_step: Tensor | None = None
    first_step: Tensor | None = None
    output_concat: Tensor | None = None


class ImageInjection(nn.Module):
    """One linear map of v. `output_dim`: the width of the decoder's output, with what is concatenated to it."""

    def __init__(
        self, kind: str, feature_dim: int, embedding_dim: int, stack: RecurrentStack, projection: str = "linear"
    ) -> None:
        """`projection`: "linear", "affine" or "batch_norm"."""
        super().__init__()
        self.kind = kind
        states = stack.states * len(stack.cells)
        columns = {
            "init": states * stack.hidden_dim,
            "pre": embedding_dim,
            "par": stack.input_columns,
            "first": stack.input_columns,
            "merge": stack.hidden_dim,
        }[kind]
        self.output_dim = stack.hidden_dim * (2 if kind == "merge" else 1)
        self.weight = nn.Parameter(torch.empty(columns, feature_dim))  # with par: Wih, for all gates
        self.bias = nn.Parameter(torch.zeros(columns)) if kind in ("init", "merge") or projection == "affine" else None
        self.batch_norm = nn.BatchNorm1d(columns, momentum=0.01) if projection == "batch_norm" else None
        nn.init.xavier_uniform_(self.weight)

    def forward(self, vector: Float[Tensor, "B D"], stack: RecurrentStack) -> InjectedImage:
        """What the images contribute; computed once per image."""
        image = self.project(vector)
        zero = stack.initial(image)
        if self.kind == "init":
            return InjectedImage(tuple(torch.split(torch.tanh(image), stack.hidden_dim, dim=1)))
        if self.kind == "pre":
            _, hidden = stack.step(stack.project(image), zero)
            return InjectedImage(hidden)
        if self.kind == "par":
            return InjectedImage(zero, per_step=image)
        if self.kind == "first":
            return InjectedImage(zero, first_step=image)
        return InjectedImage(zero, output_concat=torch.tanh(image))

    def project(self, vector: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """W v, with what `projection` adds to it."""
        image = F.linear(vector, self.weight, self.bias)
        norm = self.batch_norm
        if norm is None:
            return image
        if image.shape[0] == 1:
            return F.batch_norm(image, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        normalized: Tensor = norm(image)
        return normalized
