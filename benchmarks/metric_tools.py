"""Scores of the same captions by different tools: `python benchmarks/metric_tools.py captions_val2017.json`.

Reads COCO's annotation file; each image's first caption is scored against its others. Prints a Markdown table with one
row per tool; a tool that is not installed is skipped and named at the end.
pycocoevalcap comes with `pip install 'captioner[meteor]'`, sacrebleu with `pip install sacrebleu`; nltk's
METEOR needs `python -m nltk.downloader wordnet`. Takes a few minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from captioner.config import TokenizerConfig
from captioner.metrics import score
from captioner.text import build_tokenizer

Metrics = Mapping[str, float]
COLUMNS = ("Bleu_1", "Bleu_4", "ROUGE_L", "CIDEr", "METEOR")
NAMES = ("Bleu", "ROUGE_L", "CIDEr", "METEOR")


@dataclass(frozen=True)
class Captions:
    """Hypotheses and references by image: raw, and as PTB tokens joined by spaces."""

    hypotheses: dict[int, str]
    references: dict[int, list[str]]
    hypothesis_tokens: dict[int, str]
    reference_tokens: dict[int, list[str]]


def read_captions(path: Path) -> Captions:
    by_image: dict[int, list[str]] = defaultdict(list)
    for row in json.loads(path.read_text("utf-8"))["annotations"]:
        by_image[row["image_id"]].append(row["caption"])
    hypotheses = {image_id: texts[0] for image_id, texts in by_image.items()}
    references = {image_id: texts[1:] for image_id, texts in by_image.items()}
    tokenizer = build_tokenizer(TokenizerConfig())

    def tokens(text: str) -> str:
        return " ".join(tokenizer.tokenize(text))

    return Captions(
        hypotheses,
        references,
        {image_id: tokens(text) for image_id, text in hypotheses.items()},
        {image_id: [tokens(text) for text in texts] for image_id, texts in references.items()},
    )


def captioner_ptb(captions: Captions) -> Metrics:
    return score(captions.hypotheses, captions.references, names=NAMES).corpus


def captioner_plain_cider(captions: Captions) -> Metrics:
    scores = score(captions.hypotheses, captions.references, names=["CIDEr_plain"])
    return {"CIDEr": scores.corpus["CIDEr_plain"]}


def captioner_mean_of_images(captions: Captions) -> Metrics:
    scores = score(captions.hypotheses, captions.references, names=["Bleu", "METEOR"])
    return {name: float(np.mean([row[name] for row in scores.per_image.values()])) for name in scores.corpus}


def official(truths: dict[int, list[str]], results: dict[int, str], with_meteor: bool) -> Metrics:
    """Scores by pycocoevalcap's scorers, without its tokenizer."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge

    of_lists = {image_id: [text] for image_id, text in results.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        bleu = Bleu(4).compute_score(truths, of_lists)[0]
        scores = {
            "Bleu_1": bleu[0],
            "Bleu_4": bleu[3],
            "ROUGE_L": Rouge().compute_score(truths, of_lists)[0],
            "CIDEr": Cider().compute_score(truths, of_lists)[0],
        }
        if with_meteor:
            meteor = Meteor()
            scores["METEOR"] = meteor.compute_score(truths, of_lists)[0]
            meteor.meteor_p.kill()
    return scores


def official_ptb(captions: Captions) -> Metrics:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenize = PTBTokenizer().tokenize
    results = tokenize({image_id: [{"caption": text}] for image_id, text in captions.hypotheses.items()})
    truths = tokenize({i: [{"caption": text} for text in texts] for i, texts in captions.references.items()})
    return official(truths, {image_id: texts[0] for image_id, texts in results.items()}, with_meteor=True)


def official_untokenized(captions: Captions) -> Metrics:
    return official(captions.references, captions.hypotheses, with_meteor=False)


def official_lower_case(captions: Captions) -> Metrics:
    truths = {image_id: [text.lower() for text in texts] for image_id, texts in captions.references.items()}
    results = {image_id: text.lower() for image_id, text in captions.hypotheses.items()}
    return official(truths, results, with_meteor=False)


def nltk_lists(captions: Captions) -> tuple[list[list[list[str]]], list[list[str]]]:
    references = [[text.split() for text in texts] for texts in captions.reference_tokens.values()]
    return references, [text.split() for text in captions.hypothesis_tokens.values()]


def nltk_corpus_bleu(captions: Captions) -> Metrics:
    from nltk.translate.bleu_score import corpus_bleu

    references, hypotheses = nltk_lists(captions)
    return {"Bleu_1": corpus_bleu(references, hypotheses, (1,)), "Bleu_4": corpus_bleu(references, hypotheses)}


def nltk_sentence_bleu(captions: Captions) -> Metrics:
    from nltk.translate.bleu_score import sentence_bleu

    pairs = list(zip(*nltk_lists(captions), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one for every caption without a common 4-gram
        return {
            "Bleu_1": float(np.mean([sentence_bleu(references, hypothesis, (1,)) for references, hypothesis in pairs])),
            "Bleu_4": float(np.mean([sentence_bleu(references, hypothesis) for references, hypothesis in pairs])),
        }


def nltk_meteor(captions: Captions) -> Metrics:
    from nltk.translate.meteor_score import meteor_score

    pairs = zip(*nltk_lists(captions), strict=True)
    return {"METEOR": float(np.mean([meteor_score(references, hypothesis) for references, hypothesis in pairs]))}


def sacrebleu(references: dict[int, list[str]], hypotheses: dict[int, str], **settings: object) -> Metrics:
    from sacrebleu.metrics import BLEU

    count = max(map(len, references.values()))
    streams = [[texts[n] if n < len(texts) else None for texts in references.values()] for n in range(count)]
    orders = {"Bleu_1": 1, "Bleu_4": 4}
    return {
        name: BLEU(max_ngram_order=order, **settings).corpus_score(list(hypotheses.values()), streams).score / 100
        for name, order in orders.items()
    }


def sacrebleu_default(captions: Captions) -> Metrics:
    return sacrebleu(captions.references, captions.hypotheses)


def sacrebleu_ptb(captions: Captions) -> Metrics:
    return sacrebleu(
        captions.reference_tokens, captions.hypothesis_tokens, tokenize="none", smooth_method="none", force=True
    )


ROWS: dict[str, Callable[[Captions], Metrics]] = {
    "captioner": captioner_ptb,
    "pycocoevalcap, the official path": official_ptb,
    "pycocoevalcap on lower-cased text, not tokenized": official_lower_case,
    "pycocoevalcap on the raw text": official_untokenized,
    "sacrebleu, `tokenize=none`, on PTB tokens": sacrebleu_ptb,
    "sacrebleu's default: 13a, case-sensitive": sacrebleu_default,
    "nltk `corpus_bleu` on PTB tokens": nltk_corpus_bleu,
    "nltk `sentence_bleu`, mean over images": nltk_sentence_bleu,
    "the official scores of each image, mean": captioner_mean_of_images,
    "nltk `meteor_score`, mean over images": nltk_meteor,
    "plain CIDEr": captioner_plain_cider,
}


def table(captions: Captions) -> Iterator[str]:
    yield f"| | {' | '.join(COLUMNS)} |"
    yield f"|---|{'---:|' * len(COLUMNS)}"
    skipped = []
    for name, row in ROWS.items():
        try:
            scores = row(captions)
        except (ImportError, LookupError) as error:
            why = next(line.strip() for line in str(error).splitlines() if any(map(str.isalpha, line)))
            skipped.append(f"{name}: skipped: {why}")
            continue
        cells = (f"{scores[column]:.6f}" if column in scores else "" for column in COLUMNS)
        yield f"| {name} | {' | '.join(cells)} |"
    yield from skipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", type=Path, help="COCO's captions_val2017.json")
    for line in table(read_captions(parser.parse_args().captions)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
