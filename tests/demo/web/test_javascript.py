"""The page's preprocessing, search, phrase statistics and text in Node, beside the Python that they repeat."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.checkpoint.calibration import Calibration, CalibrationRecord, gain_of_words
from captioner.checkpoint.phrase_file import load_phrases
from captioner.checkpoint.pretrained import DEFAULT, pretrained_folder
from captioner.config import DecodeConfig, TransformConfig
from captioner.data.images.pixels import image_to_array
from captioner.decode.beam_search import beam_search
from captioner.decode.consensus import consensus_search
from captioner.decode.forbidden_tokens import forbidden_next
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis
from captioner.decode.preferred_beam import preferred_beam_search
from captioner.demo.web import consensus_files
from captioner.demo.web.model_files import page_transform, plain_phrases
from captioner.evaluation.tags import tag_table, tags_of
from captioner.runtime.onnx_rows import OnnxRows
from captioner.text.articles import Articles
from captioner.text.degenerate import why_unusable
from captioner.text.phrases import PhraseStatistics
from captioner.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from captioner.text.word_preferences import Transfer, WordPreferences
from tests.decode.consensus import random_predictor
from tests.demo.web.conftest import Evaluate

SIZES = [
    (500, 333),
    (333, 500),
    (64, 64),
    (40, 300),
    (17, 9),
    (1, 1),
    (2, 700),
    (64, 90),
    (301, 64),
    (80, 90),
    (80, 100),
    (128, 192),
]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_preprocessing_is_that_of_pillow_bit_by_bit(in_node: Evaluate, interpolation: str, resize: str) -> None:
    generator = np.random.default_rng(0)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    transform = TransformConfig(size=64, resize=resize, interpolation=interpolation, mean=mean, std=std)
    images = []
    for number, (width, height) in enumerate(SIZES):
        pixels = generator.integers(0, 256, (height, width, 3)).astype(np.uint8)
        images.append(np.where(pixels > 127, 255, 0).astype(np.uint8) if number % 2 else pixels)  # edges overshoot
    given = [
        {
            "width": image.shape[1],
            "height": image.shape[0],
            "channels": 3 + number % 2,
            "data": _flat(image, number % 2),
        }
        for number, image in enumerate(images)
    ]
    found = in_node("imagesToArrays", {"images": given, "transform": page_transform(transform)})
    for image, array in zip(images, found, strict=True):
        expected = image_to_array(Image.fromarray(image), transform)
        np.testing.assert_array_equal(np.array(array, np.float32).reshape(3, 64, 64), expected)


def _flat(image: np.ndarray, with_alpha: int) -> list[int]:
    """The pixels one after the other, with a fourth channel or without."""
    alpha = np.full((*image.shape[:2], with_alpha), 7, np.uint8)
    values: list[int] = np.concatenate([image, alpha], axis=2).ravel().tolist()
    return values


class Table:
    """In place of an ONNX graph: logits and attention of a state that the tokens so far determine."""

    def __init__(self, seed: int, *, ties: bool, states: int = 97, words: int = 12) -> None:
        generator = np.random.default_rng(seed)
        logits = generator.normal(0, 2, (states, words))
        if ties:  # of all kinds; the exponentials are 1 and 0, so that no rounding breaks a tie between rows
            logits = generator.permuted(
                np.tile([0.0, 0, 0, 0, -200, -200, -200, -300, -300, -300, -300, -300], (states, 1)), axis=1
            )
        self.logits = logits.astype(np.float32)
        self.attention = generator.dirichlet(np.ones(4), states).astype(np.float32)

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        state = (inputs["row_0"] * 31 + inputs["tokens"] + 1) % len(self.logits)
        return {"logits": self.logits[state], "attention": self.attention[state], "next_row_0": state}


CONFIGS = [
    DecodeConfig(name="greedy", max_length=9, implausible_penalty=2.0),
    DecodeConfig(beam_width=1, max_length=9),
    DecodeConfig(beam_width=3, max_length=9, length_penalty=1.0),
    DecodeConfig(beam_width=5, max_length=12, length_penalty=3.0, min_length=4),
    DecodeConfig(beam_width=5, max_length=12, no_repeat_ngram=2, allow_unknown=True),
    DecodeConfig(beam_width=4, max_length=12, no_repeat_ngram=1, min_length=12),
    DecodeConfig(beam_width=4, max_length=12, repetition_penalty=1.7, length_penalty=0.7),
    DecodeConfig(beam_width=30, max_length=3),
    DecodeConfig(beam_width=3, max_length=1, length_penalty=0.5),
    DecodeConfig(beam_width=5, no_unseen_phrase=True, no_doubled_phrase=True, no_bad_ending=True, max_length=10),
    DecodeConfig(name="greedy", no_unseen_phrase=True, no_doubled_phrase=True, max_length=10),
    DecodeConfig(beam_width=6, implausible_penalty=1.5, length_penalty=1.0, max_length=10),
]


def _phrases() -> PhraseStatistics:
    """Statistics of captions of eight words, some of them frequent enough to make others implausible."""
    generator = np.random.default_rng(5)
    chances = np.array([[0.02 if (row * 3 + column) % 5 else 1.0 for column in range(8)] for row in range(8)])
    chances /= chances.sum(axis=1, keepdims=True)
    captions = []
    for _ in range(6000):
        caption = [int(generator.integers(8))]
        while len(caption) < 8:
            caption.append(int(generator.choice(8, p=chances[caption[-1]])))
        captions.append([word + 4 for word in caption[: 8 if caption[-1] > 3 else 7]])
    return PhraseStatistics.from_captions(captions, SPECIAL_TOKENS.end)


@pytest.mark.parametrize("ties", [False, True], ids=["usual", "ties"])
def test_searches_are_those_of_python(in_node: Evaluate, ties: bool) -> None:
    """12 settings × 5 tables of logits: tokens, log-probabilities, scores, attention, of up to all hypotheses."""
    phrases = _phrases()
    searches: list[dict[str, Any]] = []
    expected = []
    for seed in range(5):
        table = Table(seed, ties=ties)
        for config in CONFIGS:
            best = 1 + seed * 2
            searches.append(
                {
                    "logits": table.logits.tolist(),
                    "attention": table.attention.tolist(),
                    "config": asdict(config),
                    "best": best,
                }
            )
            plain = config
            if config.name == "greedy":
                plain, best = replace(config, name="beam", beam_width=1, implausible_penalty=0.0), 1
            state = {"row_0": np.zeros(1, np.int64)}
            rows = OnnxRows(_Session(table), state, 1, plain, SPECIAL_TOKENS, phrases)  # type: ignore[arg-type]
            expected.append(beam_search(rows, 1, plain, SPECIAL_TOKENS, best, phrases)[0])
    given = {"searches": searches, "special": asdict(SPECIAL_TOKENS), "phrases": plain_phrases(phrases)}
    found = in_node("searchTables", given)
    for ours, theirs in zip(found, expected, strict=True):
        assert [one["tokens"] for one in ours] == [list(one.tokens) for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one["finished"] == other.finished
            assert one["logProb"] == pytest.approx(other.log_prob, abs=1e-5)
            assert one["score"] == pytest.approx(other.score, abs=1e-5)
            np.testing.assert_array_equal(
                np.array(one["attention"], np.float32).reshape(-1, 4), np.asarray(other.attention)
            )
    assert any(not one.finished for of_search in expected for one in of_search)
    assert any(len(one.tokens) > 6 for of_search in expected for one in of_search)


def test_searches_with_preferences_are_those_of_python(in_node: Evaluate) -> None:
    """8 tables × 3 settings: words that gain and lose, of one thing and of several, and probability that moves."""
    phrases = _phrases()
    same = {4: frozenset({4, 5}), 5: frozenset({4, 5}), 6: frozenset({6}), 7: frozenset({7, 8}), 8: frozenset({7, 8})}
    groups = [{4, 5}, {6}, {7, 8}]
    transfers = [Transfer(6, (4, 5, 7), 0.8), Transfer(8, (7,), 0.5)]
    searches: list[dict[str, Any]] = []
    expected, alone = [], []
    for seed in range(8):
        table, generator = Table(seed, ties=False), np.random.default_rng(seed)
        gains = {token: float(gain) for token, gain in zip(same, generator.normal(0, 2, len(same)), strict=True)}
        moved = transfers[: seed % 3]
        preferences = {
            "gains": list(gains.items()),
            "same": [[token, sorted(tokens)] for token, tokens in same.items()],
            "groups": [sorted(group) for group in groups],
            "transfers": [one._asdict() for one in moved],
        }
        for config in (CONFIGS[3], CONFIGS[6], CONFIGS[9]):
            given = {"logits": table.logits.tolist(), "attention": table.attention.tolist(), "config": asdict(config)}
            searches.append({**given, "best": 1 + seed % 4, "preferences": preferences})

            def new_rows(_: object = None, table: Table = table, config: DecodeConfig = config) -> OnnxRows:
                state = {"row_0": np.zeros(1, np.int64)}
                return OnnxRows(_Session(table), state, 1, config, SPECIAL_TOKENS, phrases)  # type: ignore[arg-type]

            wanted = [WordPreferences(gains, same, groups, moved)]
            search = (new_rows, 1, config, SPECIAL_TOKENS, 1 + seed % 4, phrases)
            expected.append(preferred_beam_search(*search, wanted)[0])
            alone.append(preferred_beam_search(*search)[0])
    given = {"searches": searches, "special": asdict(SPECIAL_TOKENS), "phrases": plain_phrases(phrases)}
    found = in_node("preferTables", given)
    for ours, theirs in zip(found, expected, strict=True):
        assert [one["tokens"] for one in ours] == [list(one.tokens) for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one["logProb"] == pytest.approx(other.log_prob, abs=1e-5)
            assert one["score"] == pytest.approx(other.score, abs=1e-5)
    changed = sum(one[0].tokens != other[0].tokens for one, other in zip(expected, alone, strict=True))
    assert changed > len(expected) // 3


def test_preferences_of_classes_are_those_of_python(in_node: Evaluate) -> None:
    """For the words of the bundled model, and images of one thing, of several, and of none."""
    (path,) = pretrained_folder(DEFAULT).glob("checkpoints/*/vocab.json")
    classes = Vocabulary.load(path).class_preferences
    generator = np.random.default_rng(7)
    logits = generator.normal(0, 1, (40, 1000))
    for number, row in enumerate(logits):
        row[generator.integers(0, 400 if number % 2 else 1000, 1 + number % 3)] += 1 + number % 14
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    given = {"classes": classes.to_plain(), "images": probabilities.tolist(), "weight": 3.0}
    found = in_node("classPreferences", given)
    expected = classes.of_images(probabilities, 3.0)
    for ours, theirs in zip(found, expected, strict=True):
        gains = dict(ours["gains"])
        assert gains.keys() == theirs.gains.keys()
        assert [gains[token] for token in theirs.gains] == pytest.approx(list(theirs.gains.values()), abs=1e-5)
        assert [(one["target"], one["sources"]) for one in ours["transfers"]] == [
            (one.target, list(one.sources)) for one in theirs.transfers
        ]
        shares = [one.share for one in theirs.transfers]
        assert [one["share"] for one in ours["transfers"]] == pytest.approx(shares, abs=1e-6)
    assert 5 < sum(bool(one.transfers) for one in expected) < len(expected)


def test_tags_are_those_of_python(in_node: Evaluate) -> None:
    generator = np.random.default_rng(11)
    logits = generator.normal(0, 1, (30, 1000))
    for number, row in enumerate(logits[2:]):
        row[generator.integers(0, 1000, 1 + number % 4)] += 2 + number % 9
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    of_regions = generator.normal(0, 1, (30, 1000, 2, 3)).round(1)  # the first of equal ones
    given = {"table": tag_table(), "images": probabilities.tolist(), "rows": 2, "columns": 3}
    found = in_node("tagsOf", {**given, "logits": of_regions.reshape(30, 1000, 6).tolist()})
    expected = tags_of(probabilities, lambda image, classes: of_regions[image, list(classes)])
    for ours, theirs in zip(found, expected, strict=True):
        assert [(tag["word"], tuple(tag["region"]), tuple(tag["grid"])) for tag in ours] == [
            (tag.word, tag.region, tag.grid) for tag in theirs
        ]
        assert [tag["probability"] for tag in ours] == pytest.approx([tag.probability for tag in theirs], abs=1e-6)
    assert {len(of_image) for of_image in expected} >= {0, 1, 2}


class _Session:
    """What `OnnxRows` needs of a session."""

    def __init__(self, table: Table) -> None:
        self.run = table.run


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_consensus_is_that_of_python(in_node: Evaluate, bits: int) -> None:
    predictor = random_predictor(9, tokens=(4, 5, 300), features=5, bits=bits)
    generator = np.random.default_rng(bits)
    captions = [tuple(generator.choice([4, 5, 300, 7], generator.integers(1, 9)).tolist()) for _ in range(12)]
    vectors = [*generator.normal(size=(6, 9)).astype(np.float32), predictor.mean]
    weight = 0.2
    found = in_node(
        "consensus",
        {
            "about": consensus_files.about(predictor),
            "content": list(consensus_files.content(predictor)),
            "vectors": [vector.tolist() for vector in vectors],
            "captions": captions,
            "weight": weight,
        },
    )
    hypotheses = [Hypothesis(one, 0.0, -0.1 * i, i % 3 > 0) for i, one in enumerate(captions)]
    config = DecodeConfig(beam_width=12, consensus_weight=weight)
    ranked = consensus_search(lambda _: [hypotheses] * 7, lambda: np.stack(vectors), config, 12, predictor)
    for ours, vector, expected in zip(found, vectors, ranked, strict=True):
        assert ours["similarities"] == pytest.approx(predictor.similarities(vector, captions).tolist(), abs=1e-9)
        assert [tuple(one["tokens"]) for one in ours["ranked"]] == [one.tokens for one in expected]
        assert [one["score"] for one in ours["ranked"]] == pytest.approx([one.score for one in expected], abs=1e-9)
    assert len({tuple(one["ranked"][0]["tokens"]) for one in found}) > 1


def test_a_diverged_model_is_an_error(in_node: Evaluate) -> None:
    given = {"logits": [0, 0, None, 0, 1], "config": asdict(DecodeConfig()), "special": asdict(SPECIAL_TOKENS)}
    assert in_node("searchError", given) == "The decoder's scores at word 1 are not numbers (NaN)."


def _bundled_phrases() -> PhraseStatistics:
    folder = pretrained_folder(DEFAULT)
    (path,) = folder.glob("checkpoints/*/phrases.npz")
    return load_phrases(path)


def test_phrase_statistics_of_the_bundled_model_decide_as_in_python(in_node: Evaluate) -> None:
    """1,000 captions drawn from frequent phrases: which next tokens are forbidden, and whether they are implausible."""
    phrases, generator = _bundled_phrases(), np.random.default_rng(1)
    followers = {
        word: [gram[1] for gram in phrases.counts if len(gram) == 2 and gram[0] == word] for word in range(4, 60)
    }
    captions = []
    for _ in range(1000):
        caption = [4]
        while len(caption) < generator.integers(1, 14):
            words = [word for word in followers.get(caption[-1], []) if word != phrases.end]
            usual = words and generator.random() < 0.8
            caption.append(int(generator.choice(words)) if usual else int(generator.integers(4, 60)))
        captions.append(caption)
    kinds = ["unseen", "doubled", "ending"]
    found = in_node("judgePhrases", {"phrases": plain_phrases(phrases), "captions": captions, "kinds": kinds})
    expected = [
        [
            bool(phrases.find(caption)),
            *(sorted(phrases.forbidden(caption, [kind])) for kind in kinds),
        ]
        for caption in captions
    ]
    assert found == expected
    for place in range(4):  # each kind occurs
        assert len({bool(of_caption[place]) for of_caption in expected}) == 2


def test_repeated_ngrams(in_node: Evaluate) -> None:
    generator = np.random.default_rng(2)
    captions = [generator.integers(4, 8, length).tolist() for length in range(12) for _ in range(8)]
    configs = [DecodeConfig(no_repeat_ngram=n) for n in (1, 2, 3, 4)]
    found = in_node(
        "allowedTokens",
        {"configs": [asdict(config) for config in configs], "captions": captions, "special": asdict(SPECIAL_TOKENS)},
    )
    for config, of_config in zip(configs, found, strict=True):
        for caption, allowed in zip(captions, of_config, strict=True):
            forbidden = set(forbidden_next([PartialHypothesis(tuple(caption))], config, None)[1])
            assert allowed == [token for token in (2, 4, 5, 6, 7) if token not in forbidden]


def test_captions_that_no_reader_can_use(in_node: Evaluate) -> None:
    generator = np.random.default_rng(3)
    captions = [[], *(["a", "dog", "b"][: 1 + i % 3] * 3 for i in range(3))]
    captions += [[str(word) for word in generator.integers(0, 2, generator.integers(1, 12))] for _ in range(200)]
    found = in_node("whyUnusable", captions)
    expected = [why_unusable(caption) for caption in captions]
    assert found == expected
    assert None in expected


def test_articles_agree_as_in_python(in_node: Evaluate) -> None:
    articles = Articles(a=4, an=5, after_an=frozenset({6, 7}), after_either=frozenset({0, 1, 2, 3, 4, 5, 9}))
    generator = np.random.default_rng(4)
    captions = [generator.integers(2, 10, generator.integers(0, 12)).tolist() for _ in range(300)]
    found = in_node("withArticles", {"articles": articles.to_plain(), "captions": captions})
    assert found == [articles.agree(caption) for caption in captions]
    assert found != captions
    assert in_node("withArticles", {"articles": None, "captions": captions}) == captions


def test_tokens_as_text(in_node: Evaluate) -> None:
    assert in_node("joinTokens", [[["a", "dog"], " "], [["犬", "が"], ""], [[], " "]]) == ["a dog", "犬が", ""]


def test_units_of_byte_pair_encoding_as_text(in_node: Evaluate) -> None:
    pytest.importorskip("sentencepiece")
    from captioner.config import TokenizerConfig
    from captioner.text.tokenizers import learn_tokenizer

    captions = ["A dog runs.", "Ein Hund läuft, schnell", "犬が走る 速く", "two  dogs run", ""]
    tokenizer = learn_tokenizer(TokenizerConfig(name="bpe", subwords=60), captions)
    units = tokenizer.tokenize_all(captions)
    generator = np.random.default_rng(4)
    known = sorted({unit for of_caption in units for unit in of_caption})
    units += [[*generator.choice(known, generator.integers(1, 8))] for _ in range(100)]
    units += [["<UNK>", "▁dog"], ["▁", "▁", "d"]]
    plain = [[str(unit) for unit in of_caption] for of_caption in units]
    assert in_node("joinTokens", [[of_caption, None] for of_caption in plain]) == [
        tokenizer.join(of_caption) for of_caption in plain
    ]


def test_confidence_and_familiarity(in_node: Evaluate) -> None:
    generator = np.random.default_rng(6)
    subspace = np.linalg.qr(generator.normal(size=(16, 5)))[0].T.astype(np.float32)
    vectors = generator.normal(size=(20, 16)).astype(np.float32)
    vectors[3] = 0
    record = CalibrationRecord("made", "val", 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    weights, means, scales = (generator.uniform(0.5, 2, 4).astype(np.float32) for _ in range(3))
    calibration = Calibration(subspace, 0.3, weights, means, scales, DecodeConfig(), record)
    found = in_node(
        "confidence",
        {
            "vectors": vectors.tolist(),
            "subspace": subspace.ravel().tolist(),
            "calibration": {
                "intercept": 0.3,
                "weights": weights.tolist(),
                "means": means.tolist(),
                "scales": scales.tolist(),
            },
        },
    )
    familiarities = calibration.familiarity(vectors)
    for i, (familiarity, confidence) in enumerate(found):
        assert familiarity == pytest.approx(familiarities[i], abs=1e-6)
        gain = gain_of_words(0.1 * i, -1.5 * i, i, 0.7)
        assert confidence == pytest.approx(calibration.confidence(-1.5 * i, i, familiarities[i], gain), abs=1e-6)
