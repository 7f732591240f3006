"""Every setting there is, with its type and its default: plain dataclasses, no Hydra.

`conf/` holds the same names as YAML; `captioner.cli.settings` is the only place that turns one into
the other. A dataclass checks itself when it is made (`__post_init__`), so a value that cannot work
fails before anything is loaded. `X | None` means that `null` is allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from captioner.errors import ConfigError, choose


def _at_least(kind: str, value: float | None, least: float) -> None:
    if value is not None and not least <= value < math.inf:  # nor is NaN a number to work with
        problem = "too small" if value < least else "no number"
        raise ConfigError(f"{kind}={value} is {problem}: expected {least} or more.")


def _within(kind: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise ConfigError(f"{kind}={value} is out of range: expected a number from {low} to {high}.")


# --------------------------------------------------------------------------------------------- text

TOKENIZERS = ("ptb", "whitespace", "char")


@dataclass
class TokenizerConfig:
    """How a caption becomes tokens, for training and for the metrics."""

    name: str = "ptb"  # ptb: as the COCO evaluation does; whitespace: any language; char: characters
    backend: str = "python"  # python: ours; java: pycocoevalcap's, where it is installed (ptb only)

    def __post_init__(self) -> None:
        choose("tokenizer.name", self.name, TOKENIZERS)
        choose("tokenizer.backend", self.backend, ("python", "java"))
        if self.backend == "java" and self.name != "ptb":
            raise ConfigError(f"tokenizer.backend=java tokenizes as ptb only, but tokenizer.name={self.name}.")


@dataclass
class VocabularyConfig:
    """Which words of the training captions the model may say."""

    min_count: int = 5  # words seen less often than this become <UNK>
    max_size: int | None = None  # keep at most this many words (the most frequent), special tokens aside

    def __post_init__(self) -> None:
        _at_least("vocabulary.min_count", self.min_count, 1)
        _at_least("vocabulary.max_size", self.max_size, 1)


# --------------------------------------------------------------------------------------------- data

DATASETS = ("scenes", "coco", "flickr8k", "flickr30k", "folder")


@dataclass
class DataConfig:
    """Where pictures and captions come from: what every source has. `name` selects the reader in `data.build`."""

    name: str = "flickr8k"
    root: str | None = None  # the data set's folder
    limit: int | None = None  # keep only the first N pictures of every split (for trying things out)
    num_workers: int = 2  # processes that decode pictures
    on_bad_image: str = "error"  # error: stop and name it; skip: leave it out, count and list it

    def __post_init__(self) -> None:
        choose("data.name", self.name, DATASETS)
        choose("data.on_bad_image", self.on_bad_image, ("error", "skip"))
        _at_least("data.limit", self.limit, 1)
        _at_least("data.num_workers", self.num_workers, 0)


@dataclass
class ScenesConfig(DataConfig):
    """The embedded data set: pictures drawn from a seed. `root` null: the cache folder."""

    name: str = "scenes"
    seed: int = 0
    train_size: int = 1600
    val_size: int = 200
    test_size: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("train_size", "val_size", "test_size"):
            _at_least(f"data.{key}", getattr(self, key), 1)


@dataclass
class CocoConfig(DataConfig):
    """MS COCO captions in the official layout, 2014 or 2017, or Karpathy's splits of it."""

    name: str = "coco"
    year: int | None = None  # 2014 or 2017 (null: whichever the folder holds)
    karpathy: str | None = None  # dataset_coco.json, or a folder of lists of file names; null: the official splits

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.year not in (None, 2014, 2017):
            raise ConfigError(f"data.year={self.year}: COCO captions exist for 2014 and 2017.")


@dataclass
class Flickr8kConfig(DataConfig):
    """Flickr8k in the official layout, or in the `captions.txt` layout that circulates."""

    name: str = "flickr8k"


@dataclass
class Flickr30kConfig(DataConfig):
    """Flickr30k by Karpathy's JSON file."""

    name: str = "flickr30k"
    karpathy: str | None = None  # dataset_flickr30k.json; null: found in root


@dataclass
class FolderConfig(DataConfig):
    """A person's own pictures and captions."""

    name: str = "folder"
    captions: str | None = None  # CSV, JSONL or COCO JSON, relative to root; null: found in root
    val_fraction: float = 0.1  # share of pictures for val, and as many for test, when the file names no splits

    def __post_init__(self) -> None:
        super().__post_init__()
        _within("data.val_fraction", self.val_fraction, 0.0, 0.4)


@dataclass
class CacheConfig:
    """Features of a frozen encoder, computed once and kept on disk."""

    enabled: bool = True  # used when the encoder is frozen and pictures are not augmented
    directory: str | None = None  # null: $CAPTIONER_CACHE, else ~/.cache/captioner


# ------------------------------------------------------------------------------------------ encoder

LARGEST_PICTURE = 4096  # pixels a side, that an encoder is given; a slip of the finger asks for more


@dataclass
class TransformConfig:
    """The only preprocessing there is; stored in the checkpoint. Pixel values are in [0, 1] before mean and std."""

    size: int = 224  # height and width in pixels
    resize: str = "squash"  # squash: the whole picture, stretched to a square; crop: the central square
    interpolation: str = "bilinear"  # bilinear or bicubic, antialiased
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        _within("transform.size", self.size, 1, LARGEST_PICTURE)
        choose("transform.resize", self.resize, ("squash", "crop"))
        choose("transform.interpolation", self.interpolation, ("bilinear", "bicubic"))
        if not all(map(math.isfinite, self.mean)):
            raise ConfigError(f"transform.mean={list(self.mean)}: expected three numbers.")
        if not all(0 < value < math.inf for value in self.std):
            raise ConfigError(f"transform.std={list(self.std)}: expected three numbers above 0.")


@dataclass
class EncoderConfig:
    """A convolutional network, cut at its last feature map."""

    name: str = "efficientnet_lite0"  # or lite1, lite2, or any torchvision classification CNN
    weights: str | None = "DEFAULT"  # DEFAULT, a torchvision weights name, a state-dict file, or null (random)
    image_size: int | None = None  # null: what the weights were made for
    resize: str = "squash"  # see TransformConfig.resize
    fine_tune_from: str | None = None  # name of the first block that learns; null: frozen
    batch_norm_eval: bool = True  # keep BatchNorm statistics as they are, also while fine-tuning

    def __post_init__(self) -> None:
        _within("encoder.image_size", self.image_size, 32, LARGEST_PICTURE)
        choose("encoder.resize", self.resize, ("squash", "crop"))


# -------------------------------------------------------------------------------------------- model

CELLS = ("rnn", "lstm", "gru")
WIDEST, DEEPEST = 65_536, 64  # more numbers a vector, or layers, than anybody has meant


@dataclass
class ModelConfig:
    """What every decoder has. `name` selects the builder in `captioner.nn.build`."""

    name: str = "recurrent"
    cell: str = "lstm"
    layers: int = 1
    embedding_dim: int = 512
    hidden_dim: int = 512
    dropout: float = 0.5
    tie_embeddings: bool = False  # the output layer's weight is the word embedding's

    def __post_init__(self) -> None:
        choose("model.cell", self.cell, CELLS)
        _within("model.dropout", self.dropout, 0.0, 0.95)
        _within("model.layers", self.layers, 1, DEEPEST)
        for key in ("embedding_dim", "hidden_dim"):
            _within(f"model.{key}", getattr(self, key), 1, WIDEST)


@dataclass
class RecurrentConfig(ModelConfig):
    """v enters every step: h = tanh(Wxh·x + Whh·h + Wih·v), in the LSTM and GRU in every gate."""


@dataclass
class AttentionConfig(ModelConfig):
    """Show, Attend and Tell with soft attention (Xu et al. 2015)."""

    name: str = "attention"
    embedding_dim: int = 300
    tie_embeddings: bool = True
    attention_dim: int = 512
    gate: str = "scalar"  # scalar: the paper's beta; vector: one gate a feature; none
    doubly_stochastic: float = 1.0  # lambda of the regulariser; 0 turns it off

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("model.gate", self.gate, ("scalar", "vector", "none"))
        _within("model.attention_dim", self.attention_dim, 1, WIDEST)
        _at_least("model.doubly_stochastic", self.doubly_stochastic, 0.0)


# ------------------------------------------------------------------------------------------- decode


@dataclass
class DecodeConfig:
    """How a caption is searched for."""

    name: str = "beam"  # greedy, sample or beam
    max_length: int = 20  # words, <END> not counted
    min_length: int = 0  # words before <END> may be said
    allow_unknown: bool = False  # may <UNK> be said?
    no_repeat_ngram: int = 0  # never say an n-gram of this length twice; 0: off
    beam_width: int = 3  # beam
    length_penalty: float = 0.0  # beam: score = log-probability / tokens**this, <END> counted; 0: none
    temperature: float = 1.0  # sample
    top_k: int = 0  # sample: only the k most probable words; 0: all
    top_p: float = 1.0  # sample: the smallest set of words with this much probability
    seed: int = 0  # sample

    def __post_init__(self) -> None:
        choose("decode.name", self.name, ("greedy", "sample", "beam"))
        _at_least("decode.max_length", self.max_length, 1)
        _within("decode.min_length", self.min_length, 0, self.max_length)
        _at_least("decode.beam_width", self.beam_width, 1)
        _at_least("decode.no_repeat_ngram", self.no_repeat_ngram, 0)
        _at_least("decode.length_penalty", self.length_penalty, 0.0)
        _at_least("decode.top_k", self.top_k, 0)
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"decode.temperature={self.temperature}: expected more than 0 (use decode=greedy for 0).")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"decode.top_p={self.top_p} is out of range: expected more than 0, up to 1.")


# ----------------------------------------------------------------------------------------- training


MONITORS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")


@dataclass
class OptimConfig:
    """The optimizer and how its learning rate moves."""

    name: str = "adamw"  # adam or adamw
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 1e-5  # for the encoder's blocks that learn
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "cosine"  # constant, cosine (to zero over the run) or step
    warmup_steps: int = 100
    step_epochs: int = 3  # step: multiply by step_factor every so many epochs
    step_factor: float = 0.5
    clip_norm: float | None = 5.0  # clip the gradient's norm to this; null: never

    def __post_init__(self) -> None:
        choose("optim.name", self.name, ("adam", "adamw"))
        choose("optim.schedule", self.schedule, ("constant", "cosine", "step"))
        for key in ("learning_rate", "encoder_learning_rate", "weight_decay", "warmup_steps"):
            _at_least(f"optim.{key}", getattr(self, key), 0)
        _at_least("optim.step_epochs", self.step_epochs, 1)
        _at_least("optim.step_factor", self.step_factor, 0)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optim.betas={list(self.betas)}: expected two numbers from 0 up to, but not, 1.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(f"optim.clip_norm={self.clip_norm}: expected more than 0, or null for no clipping.")


@dataclass
class TrainerConfig:
    """How long, in which portions, and what is kept."""

    max_epochs: int = 12
    max_steps: int | None = None  # stop after this many optimizer steps, whatever the epoch
    batch_size: int = 16  # pictures; each brings all its captions
    captions_per_image: int | None = None  # use this many of a picture's captions an epoch, drawn anew; null: all
    max_caption_length: int = 30  # words; longer training captions are cut
    label_smoothing: float = 0.1
    validate_every: int = 1  # epochs between scores of captions generated for the validation split
    monitor: str = "CIDEr"  # the score that chooses the best checkpoint
    patience: int | None = 4  # stop after this many validations without a better score; null: never
    log_every: int = 10  # steps
    evaluate_splits: list[str] = field(default_factory=lambda: ["val"])  # scored with the best checkpoint at the end
    eval_batch_size: int = 64  # pictures
    tensorboard: bool = False  # also write TensorBoard files (pip install 'captioner[tensorboard]')

    def __post_init__(self) -> None:
        for key in ("max_epochs", "max_steps", "batch_size", "captions_per_image", "max_caption_length"):
            _at_least(f"trainer.{key}", getattr(self, key), 1)
        for key in ("validate_every", "patience", "log_every", "eval_batch_size"):
            _at_least(f"trainer.{key}", getattr(self, key), 1)
        _within("trainer.label_smoothing", self.label_smoothing, 0.0, 0.9)
        choose("trainer.monitor", self.monitor, MONITORS)


@dataclass
class MetricConfig:
    """Which figures an evaluation reports."""

    names: list[str] = field(default_factory=lambda: ["Bleu", "ROUGE_L", "CIDEr", "METEOR"])
    rare_at_most: int | None = None  # Diversity: also the recall of words that training captions use at most so often
    per_image: bool = False  # also write a CSV file with every picture's scores


# ------------------------------------------------------------------------- what a command is given


@dataclass
class TrainConfig:
    """`python train.py`"""

    model: ModelConfig = field(default_factory=RecurrentConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    data: DataConfig = field(default_factory=ScenesConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    metric: MetricConfig = field(default_factory=MetricConfig)
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    resume: str | None = None  # a run folder to carry on


@dataclass
class EvaluateConfig:
    """`python evaluate.py`"""

    data: DataConfig = field(default_factory=ScenesConfig)
    split: str = "val"
    checkpoint: str | None = None  # a run folder or a checkpoint folder
    results: str | None = None  # or captions that someone else made (COCO results JSON)
    compare: str | None = None  # a second file of captions: is the difference to `results` more than chance?
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    metric: MetricConfig = field(default_factory=MetricConfig)
    batch_size: int = 64
    device: str = "auto"
