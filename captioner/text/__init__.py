"""Text: captions to tokens, and tokens to token ids."""

from captioner.text.ptb import ptb_tokenize
from captioner.text.tokenizers import Tokenizer, build_tokenizer
from captioner.text.vocabulary import SPECIAL_TOKENS, SpecialTokens, Vocabulary

__all__ = ["SPECIAL_TOKENS", "SpecialTokens", "Tokenizer", "Vocabulary", "build_tokenizer", "ptb_tokenize"]
