"""BLEU, ROUGE-L and CIDEr-D equal the official scores, to 1e-9, for the corpus and for every image."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from captioner.config import TokenizerConfig
from captioner.metrics import score, score_tokens

pytest.importorskip("pycocoevalcap", reason="the oracle is pycocoevalcap: pip install 'captioner[meteor]'")

from tests.metrics.oracle import Tokens, official

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="there is no `java` on the PATH")

caption = st.lists(st.sampled_from(["a", "dog", "runs", "on", "grass", "田", "é", "."]), max_size=12)
image = st.tuples(caption, st.lists(caption, min_size=1, max_size=6))


def assert_official(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    ours = score_tokens(hypotheses, references)
    corpus, per_image = official(hypotheses, references)
    assert ours.corpus == pytest.approx(corpus, abs=1e-9, rel=0)
    assert ours.per_image.keys() == per_image.keys()
    for name, values in per_image.items():
        assert ours.per_image[name] == pytest.approx(values, abs=1e-9, rel=0), name


@settings(max_examples=150, deadline=None)
@given(st.lists(image, min_size=1, max_size=8))
def test_generated_captions(images: list[tuple[list[str], list[list[str]]]]) -> None:
    assume(any(any(references) for _, references in images))  # the official CIDEr fails where all are empty
    assert_official([hypothesis for hypothesis, _ in images], [references for _, references in images])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(*2 * [st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1))]), min_size=2)
)
def test_generated_unicode(pairs: list[tuple[list[str], list[str]]]) -> None:
    assume(any(reference for _, reference in pairs))
    assert_official(
        [hypothesis for hypothesis, _ in pairs], [[reference, hypothesis] for hypothesis, reference in pairs]
    )


def random_caption(seed: int, length: int, words: int = 30) -> list[str]:
    generator = random.Random(seed)
    return [f"w{generator.randrange(words)}" for _ in range(length)]


ADVERSARIAL: dict[str, list[tuple[list[str], list[list[str]]]]] = {
    "one image": [(random_caption(1, 9), [random_caption(2, 9), random_caption(3, 7)])],
    "one image, equal": [(random_caption(1, 9), [random_caption(1, 9)])],
    "empty hypotheses": [([], [random_caption(1, 9)]), ([], [[], random_caption(2, 3)]), ([], [[]])],
    "empty references": [
        (random_caption(1, 3), [[]]),
        (random_caption(2, 3), [[], []]),
        (random_caption(3, 3), [random_caption(3, 3)]),
    ],
    "one word": [(["w1"], [["w1"]]), (["w1"], [["w2"], ["w1", "w2"]]), (["w2"], [[]])],
    "two and three words": [
        (random_caption(i, 2 + i % 2, 4), [random_caption(i + 9, 3, 4), random_caption(i + 99, 2, 4)])
        for i in range(20)
    ],
    "repeated words": [(["a"] * i, [["a"] * j for j in range(1, 8)]) for i in range(1, 12)] + [(["b"], [["b", "b"]])],
    "very long": [
        (random_caption(1, 300, 60), [random_caption(2, 250, 60), random_caption(3, 2, 60)]),
        (random_caption(4, 5, 60), [random_caption(5, 280, 60)]),
    ],
    "around 64 words": [
        (random_caption(i, i, 20), [random_caption(-i, 128 - i, 20), random_caption(i, i, 20)[::-1]])
        for i in range(60, 70)
    ],
    "1 to 50 references": [
        (random_caption(i, 8), [random_caption(100 * i + j, 4 + j % 9) for j in range(i)]) for i in range(1, 51)
    ],
    "ties in reference length": [
        (random_caption(i, 6), [random_caption(i + 7, 6 + d), random_caption(i + 8, 6 - d)])
        for i in range(20)
        for d in (1, 2)
    ],
    "the same references everywhere": [
        (random_caption(i, 6, 5), [random_caption(1, 6, 5), random_caption(2, 7, 5)]) for i in range(9)
    ],
    "nothing in common": [(["x", "y", "z"] * 2, [random_caption(i, 9)]) for i in range(5)],
    "Unicode": [(["犬", "é", "é"], [["犬", "é"], ["🐕", "‍"]]), (["ß", "İ", "ﬁ"], [["ß", "İ", "fi"]])],
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_captions(name: str) -> None:
    images = ADVERSARIAL[name]
    assert_official([hypothesis for hypothesis, _ in images], [references for _, references in images])


def coco(folder: Path) -> dict[int, list[str]]:
    annotations = json.loads((folder / "coco_text" / "captions_val2017.json").read_text("utf-8"))["annotations"]
    captions = defaultdict(list)
    for row in annotations:
        captions[row["image_id"]].append(row["caption"])
    return captions


def flickr8k(folder: Path) -> dict[str, list[str]]:
    captions = defaultdict(list)
    for line in (folder / "flickr8k" / "Flickr8k.token.txt").read_text("utf-8").splitlines():
        name, text = line.split("\t")
        captions[name.split("#")[0]].append(text)
    return captions


def test_coco(real_data: Path) -> None:
    """5,000 images: the first reference caption, scored against the others."""
    captions = [[text.lower().split() for text in texts] for texts in coco(real_data).values()]
    assert len(captions) == 5000
    assert_official([texts[0] for texts in captions], [texts[1:] for texts in captions])


def test_the_scores_in_the_documentation(real_data: Path) -> None:
    """docs/metrics.md quotes the scores of this call, tokenizer included."""
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| captioner |"))
    captions = coco(real_data)
    corpus = score(
        {i: texts[0] for i, texts in captions.items()}, {i: texts[1:] for i, texts in captions.items()}
    ).corpus
    quoted = [f"{corpus[name]:.6f}" for name in ("Bleu_1", "Bleu_4", "ROUGE_L", "CIDEr")]
    assert [cell.strip() for cell in row.split("|")[2:6]] == quoted


@pytest.mark.slow
def test_flickr8k(real_data: Path) -> None:
    """7,000 images: the first reference caption, scored against the others."""
    captions = [[text.lower().split() for text in texts] for texts in flickr8k(real_data).values()]
    assert len(captions) == 7000
    assert_official([texts[0] for texts in captions], [texts[1:] for texts in captions])


@pytest.mark.slow
@needs_java
@pytest.mark.parametrize("backend", ["python", "java"])
def test_from_text_to_scores(real_data: Path, backend: str) -> None:
    """The complete official evaluation, tokenizer included, on 1,000 images and on tokens with spaces."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    texts = dict(list(coco(real_data).items())[:1000])
    hypotheses = {image_id: captions[0] for image_id, captions in texts.items()}
    references = {image_id: captions[1:] for image_id, captions in texts.items()}
    if backend == "java":
        hypotheses |= {-1: "1 1/2 cups of 2 3/4 cm", -2: "call (555) 123-4567 now"}
        references |= {-1: ["1 1/2 cup of tea", "1/2 cups of tea"], -2: ["(555) 123-4567", "a call"]}
    with contextlib.redirect_stdout(io.StringIO()):
        tokenize = PTBTokenizer().tokenize
        results = tokenize({image_id: [{"caption": text}] for image_id, text in hypotheses.items()})
        truths = tokenize({i: [{"caption": text} for text in captions] for i, captions in references.items()})
    corpus, per_image = official(
        [[results[i][0]] for i in hypotheses], [[[text] for text in truths[i]] for i in hypotheses]
    )

    ours = score(hypotheses, references, tokenizer=TokenizerConfig(backend=backend))
    assert ours.corpus == pytest.approx(corpus, abs=1e-9, rel=0)
    for name, values in per_image.items():
        assert [scores[name] for scores in ours.per_image.values()] == pytest.approx(values, abs=1e-9, rel=0), name
