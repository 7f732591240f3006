"""Which tokenizer the metrics use: that of the model, unless `metric.tokenizer` names one or the model's is learned."""

from __future__ import annotations

from collections.abc import Iterable

from captioner.config import MetricConfig, TokenizerConfig
from captioner.errors import ConfigError
from captioner.text.scripts import mostly_unspaced
from captioner.text.tokenizers import is_learned

SPACED, UNSPACED = "ptb", "char"
"""The tokenizers of captions that are generated in learned units: they are detokenized, so the language decides."""


def scoring_tokenizer(metric: MetricConfig, tokenizer: TokenizerConfig, references: Iterable[str]) -> TokenizerConfig:
    """The settings of the tokenizer with which captions and references are scored.

    `metric.tokenizer` where it is set, else `tokenizer`. Units that are learned from training captions are no words,
    and differ between models: then it is PTB, or characters where most letters of the references belong to scripts
    without spaces. ConfigError where `metric.tokenizer` names a tokenizer that is learned.
    """
    if metric.tokenizer is not None:
        backend = tokenizer.backend if metric.tokenizer == tokenizer.name else TokenizerConfig.backend
        chosen = TokenizerConfig(metric.tokenizer, backend)
        if is_learned(chosen):
            raise ConfigError(
                f"metric.tokenizer={metric.tokenizer} is learned from training captions, so scores would not be "
                f"comparable between models. Choose one of the others, such as {SPACED} or {UNSPACED}."
            )
        return chosen
    if not is_learned(tokenizer):
        return tokenizer
    return TokenizerConfig(UNSPACED if mostly_unspaced(references) else SPACED)
