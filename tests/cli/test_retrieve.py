"""`python -m captioner retrieve`: images found by sentences, and mistakes answered in one message."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from captioner import Captioner
from captioner.cli.retrieve import main
from captioner.cli.train import main as train
from captioner.config import FolderConfig
from captioner.data.datasets.registry import load_dataset
from captioner.decode.teacher_forcing import token_log_probs
from captioner.metrics.retrieval_scores import caption_retrieval_scores, retrieval_scores
from captioner.nn.types import ImageFeatures
from tests.cli.conftest import SMALL, Command, SmallRun

TRAINED = (  # the features of an untrained SqueezeNet tell white from the other colors, and little else
    *(option for option in SMALL if not option.startswith(("encoder.name", "model.", "trainer.max_epochs"))),
    "encoder.name=squeezenet1_1",
    "model=chen_zitnick",
    "model.dropout=0",
    "model.embedding_dim=16",
    "model.hidden_dim=16",
    "model.visual_dim=32",
    "model.reconstruction=3",
    "optim.learning_rate=0.02",
    "trainer.batch_size=4",
    "trainer.max_epochs=40",
    "trainer.validate_every=40",
)


def test_captions_find_their_images_and_a_query_finds_white(command: Command, tiny: FolderConfig) -> None:
    result = command(train, *TRAINED, "hydra.run.dir=run")
    assert result.code == 0, result.err
    result = command(main, "--checkpoint", "run", "--split", "train", "--device", "cpu")
    assert result.code == 0, result.err
    assert "32 captions search for their own image among 16 images" in result.out
    model, chance = ([float(cell) for cell in line.split("|")[2:6]] for line in result.out.splitlines()[-2:])
    assert chance == [6.2, 31.2, 62.5, 8.5]
    assert model[1] > chance[1] + 9
    result = command(
        main, "--checkpoint", "run", "--split", "train", "--top", "4", "--query", "A white half on the left."
    )
    assert result.code == 0, result.err
    assert "Note" not in result.err
    found = [Path(line.split()[1]).name for line in result.out.splitlines()]
    assert set(found) == {"003.png", "007.png", "011.png", "015.png"}, "the white ones of the training split"
    options = ("--checkpoint", "run", "--split", "train", "--json")
    as_json = json.loads(command(main, *options, "--top", "4", "--query", "A white half on the left.").out)
    assert [(f"{image['score']:6.3f}", image["path"]) for image in as_json["images"]] == [
        (line[:6], line[8:]) for line in result.out.splitlines()
    ]
    measured = json.loads(command(main, *options).out)
    assert measured["captions"] == 32
    assert round(100 * measured["model"]["R@5"], 1) == model[1]
    scores = [float(line.split()[0]) for line in result.out.splitlines()]
    assert scores == sorted(scores, reverse=True)
    result = command(main, "--checkpoint", "run", "--images", "2", "--query", "a zebra", "--device", "cpu")
    assert "'zebra' did not occur" in result.err
    assert result.out.count("\n") == 2
    result = command(main, "--checkpoint", "run", "--query", "...", "--device", "cpu")
    assert result.code == 2
    assert "contains no word" in result.err


def test_a_model_that_cannot_reconstruct_features_and_other_mistakes(command: Command, small_run: SmallRun) -> None:
    small_run("run")
    for options, message in [
        (["--checkpoint", "run", "--by", "features"], "model=chen_zitnick"),
        (["--checkpoint", "run", "--by", "feature"], "Did you mean features?"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--checkpoint", "run", "--qeury", "dog"], "Did you mean --query?"),
        (["--checkpoint", "run", "--top", "0"], "--top=0 is too small"),
    ]:
        result = command(main, *options)
        assert result.code == 2
        assert message in result.err
        assert "Traceback" not in result.err


def test_likelihoods_are_those_of_scoring_every_caption_for_every_image(command: Command, tiny: FolderConfig) -> None:
    """With the bundled model: brute force with `Captioner.score`, one pair at a time."""
    options = (
        "--checkpoint",
        "flickr8k",
        "--data",
        "folder",
        "--data-root",
        "data",
        "--set",
        "data.captions=captions.csv",
    )
    options = (*options, "--images", "3", "--split", "val", "--device", "cpu")
    result = command(main, *options, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert (found["images"], found["captions"], found["by"]) == (3, 6, "likelihood")
    images = load_dataset(replace(tiny, limit=3), "val").images
    model = Captioner.pretrained("flickr8k", device="cpu")
    captions = [caption for image in images for caption in image.captions]
    table = np.array([[one.log_prob for one in model.score(image.path, captions)] for image in images]).T
    owners = [0, 0, 1, 1, 2, 2]
    assert found["model"] == retrieval_scores(table, owners)
    tokens = [
        model.vocabulary.encode(word.word for word in one.words[:-1]) for one in model.score(images[0].path, captions)
    ]
    encoded = model.encode([image.path for image in images])
    mean = ImageFeatures(encoded.vector.mean(0, keepdim=True), encoded.grid.mean(0, keepdim=True))
    prior = [
        scored.total for _, _, scored in token_log_probs(model.model.decoder, mean, [tokens], len(model.vocabulary))
    ]
    normalized = table - np.array(prior)[:, None]
    assert found["image_to_caption"]["model"] == caption_retrieval_scores(normalized, owners)
    best = int(table[0].argmax())
    query = command(main, *options, "--query", captions[0], "--top", "1")
    value, path = query.out.split()
    assert float(value) == pytest.approx(table[0, best], abs=2e-3)  # batched, and printed with three digits
    assert Path(path).name == images[best].path.name
    text = command(main, *options, "--normalize", "none").out
    assert "3 images search for one of their own captions among 6 captions" in text
    assert "6 captions search for their own image among 3 images" in text
    assert "mean image" not in text


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help(command: Command, arguments: list[str]) -> None:
    result = command(main, *arguments)
    assert result.code == 0
    assert "query" in result.out
