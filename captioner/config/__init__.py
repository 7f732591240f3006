"""All settings, with their types, defaults and explanations: plain dataclasses, without Hydra or PyTorch.

The comment behind a field explains the setting (`captioner.config.explain`). A dataclass checks its values when it is
made (`__post_init__`), so an invalid value fails before anything is loaded. `X | None` means that `null` is allowed.

`conf/` has the same names as YAML; `captioner.cli.hydra_config` composes the dataclasses from it.
"""

from __future__ import annotations

from captioner.config.attention_models import Att2inConfig, TransformerConfig, UpDownConfig
from captioner.config.augment import AugmentConfig
from captioner.config.cells import CELLS
from captioner.config.commands import TASKS, EvaluateConfig, LanguageModelConfig, TrainConfig
from captioner.config.data import (
    DATASETS,
    CacheConfig,
    CocoConfig,
    CocotalkConfig,
    DataConfig,
    Flickr8kConfig,
    Flickr30kConfig,
    FolderConfig,
    ScenesConfig,
    ShardsConfig,
)
from captioner.config.decode import ENSEMBLE_MEANS, RANKED_SEARCHES, SEARCHES, USED_BY, DecodeConfig
from captioner.config.encoder import ENCODERS, LARGEST_IMAGE, EncoderConfig, TransformConfig
from captioner.config.language_model import (
    LEVELS,
    LanguageNetworkConfig,
    LanguageTrainerConfig,
    SamplingConfig,
    TextConfig,
)
from captioner.config.meteor import MeteorConfig
from captioner.config.model import (
    ATTENTIONS,
    DECODERS,
    DEEPEST,
    HARD_AT_TEST,
    INJECTIONS,
    WIDEST,
    AttentionConfig,
    ChenZitnickConfig,
    ModelConfig,
    MRNNConfig,
    RecurrentConfig,
)
from captioner.config.objective import ObjectiveConfig
from captioner.config.reward import RewardConfig
from captioner.config.text import TOKENIZERS, TokenizerConfig, VocabularyConfig
from captioner.config.training import MetricConfig, OptimConfig, TrainerConfig

__all__ = [
    "ATTENTIONS",
    "CELLS",
    "DATASETS",
    "DECODERS",
    "DEEPEST",
    "ENCODERS",
    "ENSEMBLE_MEANS",
    "HARD_AT_TEST",
    "INJECTIONS",
    "LARGEST_IMAGE",
    "LEVELS",
    "RANKED_SEARCHES",
    "SEARCHES",
    "TASKS",
    "TOKENIZERS",
    "USED_BY",
    "WIDEST",
    "Att2inConfig",
    "AttentionConfig",
    "AugmentConfig",
    "CacheConfig",
    "ChenZitnickConfig",
    "CocoConfig",
    "CocotalkConfig",
    "DataConfig",
    "DecodeConfig",
    "EncoderConfig",
    "EvaluateConfig",
    "Flickr8kConfig",
    "Flickr30kConfig",
    "FolderConfig",
    "LanguageModelConfig",
    "LanguageNetworkConfig",
    "LanguageTrainerConfig",
    "MRNNConfig",
    "MeteorConfig",
    "MetricConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "RecurrentConfig",
    "RewardConfig",
    "SamplingConfig",
    "ScenesConfig",
    "ShardsConfig",
    "TextConfig",
    "TokenizerConfig",
    "TrainConfig",
    "TrainerConfig",
    "TransformConfig",
    "TransformerConfig",
    "UpDownConfig",
    "VocabularyConfig",
]
