"""Which settings do not fit the captions: compared with counting by hand, and silent where the defaults fit."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from captioner.config import CocoConfig, DataConfig, Flickr8kConfig, TokenizerConfig, VocabularyConfig
from captioner.data.batches import TokenizedCaptions, tokenize_captions
from captioner.data.caption_advice import TrainingLengths, caption_advice, describe_units, unknown_share
from captioner.data.datasets.registry import load_dataset
from captioner.text.tokenizers import CHARACTERS, PTB, WHITESPACE, Tokenizer
from captioner.text.vocabulary import Vocabulary

LENGTHS = TrainingLengths(30, 20)
CHINESE = ["一个女孩站在舞台上唱歌，天气很好", "两个男人在草地上奔跑", "一个老人在厨房里做饭"]
SEGMENTED = ["一个 女孩 站 在 舞台 上 唱歌", "两个 男人 在 草地 上 奔跑"]
JAPANESE = ["女の子がステージで歌っています", "二人の男性が芝生の上を走っています"]
THAI = ["เด็กผู้หญิงกำลังร้องเพลงบนเวที", "ชายสองคนวิ่งบนสนามหญ้า"]
ARABIC = ["فتاة تغني على المسرح", "رجلان يركضان على العشب"]
KOREAN = ["소녀가 무대에서 노래하고 있다", "두 남자가 잔디에서 달리고 있다"]


def _tokens(captions: list[str], tokenizer: Tokenizer = PTB) -> TokenizedCaptions:
    return TokenizedCaptions.from_lists([tokenizer.tokenize_all(captions)])


def _advice(
    train: list[str],
    val: list[str] | None = None,
    tokenizer: Tokenizer = PTB,
    settings: VocabularyConfig | None = None,
    lengths: TrainingLengths = LENGTHS,
) -> list[str]:
    settings = settings or VocabularyConfig(min_count=1)
    tokens = _tokens(train, tokenizer)
    vocabulary = Vocabulary.from_captions((words for captions in tokens for words in captions), settings)
    return caption_advice(tokens, _tokens(val or [], tokenizer), vocabulary, settings, tokenizer.name, lengths)


def test_lengths_are_counted_as_by_hand() -> None:
    rng = random.Random(0)
    captions = [" ".join("a" * rng.randint(1, 60)) for _ in range(500)]
    lengths = [caption.count("a") for caption in captions]
    cut, longer = sum(length > 30 for length in lengths), sum(length > 20 for length in lengths)
    first, second = _advice(captions)
    assert f"({cut} of 500) have more than 30 words and are cut: raise trainer.max_caption_length=30" in first
    assert f"({longer} of 500) are longer than any generated caption can be: raise decode.max_length=20" in second
    assert f"{cut / 500:.0%}" in first
    assert f"have at most {sorted(lengths)[-5]} words" in first  # 495 of 500 are not longer
    assert _advice(captions, lengths=TrainingLengths(60, 60)) == []
    assert "characters and are cut" in _advice(captions, tokenizer=CHARACTERS)[0]


def test_a_few_long_captions_are_no_reason_to_warn() -> None:
    captions = ["a dog"] * 99 + ["a " * 40]
    assert _advice(captions) == []
    assert len(_advice([*captions, "a " * 40])) == 1  # more than 1 %


@pytest.mark.parametrize(("captions", "language"), [(CHINESE, "Chinese"), (JAPANESE, "Japanese"), (THAI, "Thai")])
def test_languages_without_spaces(captions: list[str], language: str) -> None:
    for tokenizer in (PTB, WHITESPACE):
        (message,) = _advice(captions, tokenizer=tokenizer)
        assert "100% of the letters are in a script without spaces" in message
        assert f"({language}), and tokenizer={tokenizer.name} divides at spaces" in message
        assert "tokenizer=char" in message
    assert _advice(captions, tokenizer=CHARACTERS, lengths=TrainingLengths(40, 40)) == []


@pytest.mark.parametrize("captions", [ARABIC, KOREAN, SEGMENTED, ["a dog runs"], ["a dog 狗"]])
def test_languages_with_spaces(captions: list[str]) -> None:
    assert _advice(captions, tokenizer=WHITESPACE) == []


def test_the_share_of_letters_is_that_of_all_captions() -> None:
    """The mixture of English and Chinese at which 12 of 30 letters are Chinese, whatever token repeats."""
    (message,) = _advice(["dogs bite cats only and", "一二三四五六七八九十上下"], tokenizer=WHITESPACE)
    assert message.startswith(f"{12 / 31:.0%} of the letters")
    assert "has 12.0 such letters" in message
    assert _advice(["dog " * 300, "一二三四五六七八九十"], lengths=TrainingLengths(999, 999)) == []  # 1 %


def test_unknown_words_are_counted_as_by_hand() -> None:
    rng = random.Random(1)
    words = [f"w{number}" for number in range(60)]
    train = [" ".join(rng.choices(words, k=5)) for _ in range(40)]
    val = [" ".join(rng.choices(words, k=5)) for _ in range(40)]
    settings = VocabularyConfig(min_count=4)
    every = " ".join(train).split()
    known = {word for word in every if every.count(word) >= 4}
    unknown = [word for word in " ".join(val).split() if word not in known]
    (message,) = _advice(train, val, settings=settings)
    assert message.startswith(f"Of 100 words of the validation captions, {len(unknown) / 2:.0f} are unknown")
    assert message.endswith("lower vocabulary.min_count=4.")
    (message,) = _advice(train, val, settings=replace(settings, min_count=1, max_size=20))
    assert message.endswith("raise vocabulary.max_size=20.")
    (message,) = _advice(train, ["never said"] * 60)
    assert "(they do not occur in train): add training captions, or choose tokenizer=bpe." in message
    assert _advice(train, ["never said"] * 40) == []  # 80 words are no sample


def test_the_vocabulary_of_a_checkpoint_is_not_changed_by_settings() -> None:
    """With init_from the settings of `vocabulary` have no effect, so none of them is advised."""
    train, val = _tokens(["a dog runs"], PTB), _tokens(["never said"] * 60, PTB)
    vocabulary = Vocabulary.from_captions([["dog"]], VocabularyConfig(min_count=1))
    (message,) = caption_advice(train, val, vocabulary, None, "ptb", LENGTHS)
    assert "100 are unknown to the vocabulary (it is that of init_from): no caption will have them" in message
    assert "vocabulary." not in message


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("char", "(they do not occur in train): add training captions."),
        ("bpe", "add training captions, or choose fewer, shorter units by a lower tokenizer.subwords."),
    ],
)
def test_unknown_units_need_no_other_tokenizer(name: str, advice: str) -> None:
    tokens = TokenizedCaptions.from_lists([[["a", "b"]]])
    settings = VocabularyConfig(min_count=1)
    vocabulary = Vocabulary.from_captions([["a", "b"]], settings)
    unknown = TokenizedCaptions.from_lists([[["c"]] * 100])
    (message,) = caption_advice(tokens, unknown, vocabulary, settings, name, LENGTHS)
    assert message.endswith(advice)


def test_fewer_subwords_leave_fewer_units_unknown() -> None:
    """The advice holds: units that the training captions only have inside of longer ones are unknown elsewhere."""
    pytest.importorskip("sentencepiece", reason="tokenizer=bpe needs the extra [bpe]")
    from captioner.text.bpe import learn, load

    rng = random.Random(2)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=3)) for _ in range(60)]
    train, val = ([" ".join(rng.choices(part, k=6)) for _ in range(60)] for part in (words[:40], words))
    shares = []
    for subwords in (60, 4000):
        tokenizer = load(learn(train, TokenizerConfig(name="bpe", subwords=subwords)))
        tokens = _tokens(train, tokenizer)
        vocabulary = Vocabulary.from_captions((units for captions in tokens for units in captions), VocabularyConfig())
        shares.append(unknown_share(_tokens(val, tokenizer), vocabulary))
    assert shares[0] < 0.01 < 0.1 < shares[1]


def test_share_of_unknown_words() -> None:
    vocabulary = Vocabulary(["a", "dog"])
    assert unknown_share(_tokens(["a cat", "a dog"]), vocabulary) == 0.25
    assert unknown_share(_tokens([]), vocabulary) == 0


def test_units_of_a_learned_tokenizer() -> None:
    assert describe_units(_tokens(["a dog", "a cat runs fast"]), "bpe") == (
        "tokenizer=bpe uses 5 units; a training caption has 3.0 of them on average, and at most 4."
    )


def test_real_captions_fit_the_defaults(real_data: Path) -> None:
    configs: list[DataConfig] = [Flickr8kConfig(root=str(real_data / "flickr8k"), on_bad_image="skip")]
    coco = load_dataset(CocoConfig(root=str(real_data / "coco_mini")), "train").all_captions
    assert _advice(coco, settings=VocabularyConfig(min_count=1)) == []
    for config in configs:
        train, val = (tokenize_captions(load_dataset(config, split), PTB) for split in ("train", "val"))
        settings = VocabularyConfig()
        vocabulary = Vocabulary.from_captions((words for captions in train for words in captions), settings)
        assert caption_advice(train, val, vocabulary, settings, "ptb", LENGTHS) == []
