"""The page without a server in Chromium, beside `captioner.runtime`: captions, messages, and without a connection."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from captioner.checkpoint.pretrained import DEFAULT
from captioner.config import CacheConfig, Flickr8kConfig, MetricConfig, ModelConfig, RecurrentConfig, TransformerConfig
from captioner.data.datasets.registry import load_dataset
from captioner.demo.web.site import write_site
from captioner.generated_caption import Caption
from captioner.runtime import OnnxCaptioner
from captioner.text.class_words import Tag
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.demo.browser import CHROMIUM, Browser
from tests.demo.web.conftest import serving_folder
from tests.tiny import tiny_config, with_trainer, write_tiny_data

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript", reason="a small model is exported, which needs the extra [onnx]")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]

ROOT = Path(__file__).parents[3]
FLICKR = Path(os.environ.get("CAPTIONER_DATA", "/nonexistent")) / "flickr8k"
CAPTION = """
(async () => {
  const { ready } = await import("./page.js");
  const { decodePhoto } = await import("./photo.js");
  const { worker } = await ready;
  let { bitmap } = await decodePhoto(await (await fetch(PATH)).blob());
  const answers = [];
  for (const [search, alternatives] of SEARCHES) {
    answers.push(await worker.caption(PATH, bitmap, search, alternatives));
    bitmap = null; // the photo is encoded once
  }
  return JSON.stringify(answers);
})()
"""
LOADED = "document.body.dataset.offline || document.body.classList.contains('failed')"
ANSWERED = "document.body.dataset.answered || !document.querySelector('#error').hidden"
ERROR = "document.querySelector('#error').hidden ? '' : document.querySelector('#error').textContent"


class Site(NamedTuple):
    """A page in a folder, the captioner in Python, and photos as PNG files in the page's folder `photos`."""

    folder: Path
    captioner: OnnxCaptioner
    photos: list[Path]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        browser.screen(1280, 900)
        yield browser


@pytest.fixture(scope="module")
def make_site(
    tmp_path_factory: pytest.TempPathFactory, runtime: dict[str, bytes]
) -> Callable[[ModelConfig | None], Site]:
    """Function: settings of a decoder, None for one with attention → the page of a small model, just trained."""
    made: dict[str, Site] = {}

    def make_once(model: ModelConfig | None) -> Site:
        if str(model) not in made:
            made[str(model)] = make(model)
        return made[str(model)]

    def make(model: ModelConfig | None) -> Site:
        folder = tmp_path_factory.mktemp("web")
        config = with_trainer(tiny_config(write_tiny_data(folder / "data")), max_epochs=1)
        config = replace(
            config, metric=MetricConfig(names=["Bleu"]), cache=CacheConfig(directory=str(folder / "cache"))
        )
        for name in ("run", "site"):
            (folder / name).mkdir()
        train(prepare(config if model is None else replace(config, model=model), folder / "run"))
        export = ["export", "--checkpoint", folder / "run", "--onnx", folder / "onnx"]  # torch exports no checked types
        subprocess.run(
            [sys.executable, "-m", "captioner", *map(str, export)], cwd=ROOT, check=True, capture_output=True
        )
        write_site(folder / "onnx", folder / "site", "tiny", runtime)
        (folder / "site" / "photos").mkdir()
        for size in ((500, 333), (333, 500), (64, 64), (31, 200)):
            photo = Image.open(folder / "data" / "003.png").resize(size)
            photo.rotate(size[1]).save(folder / "site" / "photos" / f"{size[0]}.png")
        captioner = OnnxCaptioner.from_checkpoint(folder / "onnx", threads=1)
        return Site(folder / "site", captioner, sorted((folder / "site" / "photos").iterdir()))

    return make_once


@pytest.fixture(scope="module")
def site(make_site: Callable[[ModelConfig | None], Site]) -> Site:
    return make_site(None)


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Browser]:
    """The loaded page of the small model with attention; no test may cause a script error or a request elsewhere."""
    with serving_folder(site.folder) as address:
        browser.go(address)
        browser.wait_for(LOADED)
        assert browser.value(ERROR) == ""
        yield browser
        for event in browser.events:
            if event["method"] == "Network.requestWillBeSent":
                assert event["params"]["request"]["url"].startswith((address, f"blob:{address}")), event
            assert event["method"] not in ("Runtime.exceptionThrown", "Log.entryAdded"), event


Search = tuple[dict[str, Any], int]
"""Settings that differ from the model's own, and the number of alternatives."""


def caption(page: Browser, photo: Path, searches: list[Search]) -> list[dict[str, Any]]:
    """What the page's captioner answers for a photo in the page's folder, by each search."""
    code = CAPTION.replace("PATH", json.dumps(f"photos/{photo.name}")).replace("SEARCHES", json.dumps(searches))
    answers: list[dict[str, Any]] = json.loads(page.value(code))
    return answers


def check_captions(answer: dict[str, Any], expected: Caption) -> None:
    """The same captions, probabilities, scores, attention and confidence."""
    assert [one["text"] for one in answer["captions"]] == [one.text for one in (expected, *expected.alternatives)]
    for one, other in zip(answer["captions"], (expected, *expected.alternatives), strict=True):
        assert one["tokens"] == list(other.tokens)
        assert one["log_prob"] == pytest.approx(other.log_prob, abs=1e-3)
        assert one["score"] == pytest.approx(other.score, abs=1e-3)
        assert one["finished"] == other.finished
        assert one["unusable"] == other.unusable
        if other.attention is None:
            assert one["attention"] is None
        else:
            found = np.array(one["attention"]).reshape(other.attention.shape)
            np.testing.assert_allclose(found, other.attention, atol=1e-4)
    best = answer["captions"][0]
    assert best.get("unlike_training") == expected.unlike_training
    assert best.get("confidence") == (
        None if expected.confidence is None else pytest.approx(expected.confidence, abs=1e-4)
    )
    check_tags(best["tags"], expected.tags)


def check_tags(found: list[dict[str, Any]] | None, expected: tuple[Tag, ...] | None) -> None:
    """The same things in the same order and places."""
    assert (found is None) == (expected is None)
    if expected is None or found is None:
        return
    assert [(one["word"], tuple(one["region"]), tuple(one["grid"])) for one in found] == [
        (one.word, one.region, one.grid) for one in expected
    ]
    assert [one["probability"] for one in found] == pytest.approx([one.probability for one in expected], abs=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        None,
        TransformerConfig(layers=1, encoder_layers=1, embedding_dim=8, hidden_dim=8, heads=2),
        RecurrentConfig(embedding_dim=8, hidden_dim=8, layers=2),
    ],
    ids=["attention", "transformer", "lstm"],
)
def test_captions_are_those_of_the_runtime(
    browser: Browser, make_site: Callable[[ModelConfig | None], Site], model: ModelConfig | None
) -> None:
    made = make_site(model)
    with serving_folder(made.folder) as address:
        browser.go(address)
        browser.wait_for(LOADED)
        assert browser.value(ERROR) == ""
        searches: list[Search] = [
            ({"name": "greedy"}, 0),
            ({"name": "beam", "beam_width": 4, "length_penalty": 0.7}, 3),
        ]
        for photo in made.photos:
            answers = caption(browser, photo, searches)
            for (search, alternatives), answer in zip(searches, answers, strict=True):
                decode = replace(made.captioner.decode, **search)
                check_captions(answer, made.captioner.caption(photo, alternatives=alternatives, decode=decode))


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory, runtime: dict[str, bytes]) -> Site:
    """The page of the bundled model, with the documentation's photos."""
    captioner = OnnxCaptioner.pretrained(threads=1)
    folder = tmp_path_factory.mktemp("bundled")
    write_site(captioner.folder, folder, DEFAULT, runtime)
    (folder / "photos").mkdir()
    photos = []
    for path in sorted((ROOT / "docs" / "pretrained").glob("*.jpg")):
        photos.append(folder / "photos" / f"{path.stem}.png")
        Image.open(path).convert("RGB").save(photos[-1], compress_level=1)
    return Site(folder, captioner, photos)


def test_tags_are_those_of_python_and_show_their_regions(browser: Browser, bundled: Site) -> None:
    with serving_folder(bundled.folder) as address:
        browser.go(address)
        browser.wait_for(LOADED)
        assert browser.value(ERROR) == ""
        seen = []
        for photo in bundled.photos:
            (answer,) = caption(browser, photo, [({"name": "greedy"}, 0)])
            expected = bundled.captioner.caption(photo, decode="greedy").tags
            assert expected is not None
            check_tags(answer["captions"][0]["tags"], expected)
            seen.append(expected)
        most = max(range(len(seen)), key=lambda place: len(seen[place]))
        assert len(seen[most]) > 1, "no photo of these shows several things"
        browser.value("delete document.body.dataset.answered")
        browser.choose_file("#file", bundled.photos[most])
        browser.wait_for(ANSWERED)
        shown = browser.value("[...document.querySelectorAll('.tags button')].map((tag) => tag.textContent)")
        assert shown == [f"{tag.word} {100 * tag.probability:.0f} %" for tag in seen[most]]
        browser.point_at(".tags button")
        note = browser.wait_for(
            "document.querySelector('.tags .attended') && document.querySelector('.attention-note').textContent"
        )
        assert note.startswith(f"“{seen[most][0].word}” is seen most in the ")
        (row, column), (rows, columns) = seen[most][0].region, seen[most][0].grid
        opacity = (
            "((y, x) => {{ const canvas = document.querySelector('canvas'); return canvas.getContext('2d')."
            "getImageData(x * canvas.width, y * canvas.height, 1, 1).data[3]; }})({}, {})"
        )
        inside = browser.value(opacity.format((row + 0.5) / rows, (column + 0.5) / columns))
        away = browser.value(opacity.format(0.01 if row > rows / 2 else 0.99, 0.01 if column > columns / 2 else 0.99))
        assert away > inside, "the region is not the bright one"
        browser.point_at("h2")
        browser.wait_for("!document.querySelector('.tags .attended')")


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not FLICKR.is_dir(), reason="needs Flickr8k in CAPTIONER_DATA")
def test_captions_of_50_photos_by_the_bundled_model(browser: Browser, bundled: Site) -> None:
    """By greedy search and by the model's own, which weighs classes; as PNG files, which decode alike everywhere."""
    folder, captioner = bundled.folder, bundled.captioner
    images = load_dataset(Flickr8kConfig(root=str(FLICKR)), "val").images[:50]
    paths = [image.path for image in images if isinstance(image.path, Path)]
    assert len(paths) == 50
    assert captioner.decode.class_weight > 0
    changed = 0
    with serving_folder(folder) as address:
        browser.go(address)
        browser.wait_for(LOADED)
        for path in paths:
            photo = folder / "photos" / f"{path.stem}.png"
            Image.open(path).convert("RGB").save(photo, compress_level=1)
            greedy, beam = caption(browser, photo, [({"name": "greedy"}, 0), ({}, 4)])
            check_captions(greedy, captioner.caption(photo, decode="greedy"))
            expected = captioner.caption(photo, alternatives=4)
            check_captions(beam, expected)
            changed += expected.text != captioner.caption(photo, class_weight=0.0).text
    assert changed, "no photo of these has another caption with classes"


def test_a_photo_is_captioned_and_its_attention_is_shown(page: Browser, site: Site) -> None:
    page.choose_file("#file", site.photos[0])
    page.wait_for(ANSWERED)
    assert page.value(ERROR) == ""
    expected = site.captioner.caption(site.photos[0], alternatives=2)
    rows = page.value("[...document.querySelectorAll('tbody th')].map((row) => row.textContent)")
    assert rows == [one.text or "(empty caption)" for one in (expected, *expected.alternatives)]
    longest = max(range(len(rows)), key=lambda row: len(rows[row].split()))
    page.value(f"document.querySelectorAll('tbody button')[{longest}].click()")
    page.point_at(".caption button")
    word = page.wait_for("document.querySelector('.caption .attended')?.textContent")
    assert f"“{word}” attends" in page.value("document.querySelector('.attention-note').textContent")
    facts = page.value("document.querySelector('.facts').textContent")
    assert "Runtime: 14.3 MB (onnxruntime-web" in facts
    assert "works without a connection" in facts


def test_another_search_does_not_need_the_photo_again(page: Browser, site: Site) -> None:
    page.choose_file("#file", site.photos[1])
    page.wait_for(ANSWERED)
    page.value("delete document.body.dataset.answered")
    page.value("document.querySelector('[value=greedy]').click()")
    page.wait_for(ANSWERED)
    assert page.value("document.querySelectorAll('tbody tr').length") == 1
    expected = site.captioner.caption(site.photos[1], decode="greedy").text
    assert page.value("document.querySelector('tbody th').textContent") == (expected or "(empty caption)")


def test_it_works_when_the_server_is_gone(browser: Browser, site: Site) -> None:
    with serving_folder(site.folder) as address:
        browser.go(address)
        browser.wait_for(LOADED)
        assert browser.value("document.body.dataset.offline") == "true"
    browser.go(address)
    browser.wait_for(LOADED)
    assert browser.value(ERROR) == ""
    browser.choose_file("#file", site.photos[0])
    browser.wait_for(ANSWERED)
    assert browser.value("document.body.dataset.answered") == site.photos[0].name


def test_it_fits_on_a_phone(page: Browser, site: Site) -> None:
    page.screen(360, 740, touch=True)
    try:
        page.choose_file("#file", site.photos[0])
        page.wait_for(ANSWERED)
        assert page.value("document.documentElement.scrollWidth") <= 360
    finally:
        page.screen(1280, 900)


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), 99).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "bad.png: This file is empty (0 bytes). Expected an image."),
        (b"no image", "bad.png: This file is not an image that this browser can read, such as JPEG, PNG or WebP."),
        (png(300, 300)[:100], "bad.png: "),
    ],
    ids=["empty", "text", "cut"],
)
def test_a_file_that_is_no_image_is_one_message(page: Browser, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    page.choose_file("#file", tmp_path / "bad.png")
    assert page.wait_for(ERROR).startswith(message)
    page.events.clear()


def test_a_photo_too_large_for_memory_is_scaled_down(page: Browser, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(8000, 6000))
    page.choose_file("#file", tmp_path / "large.png")
    page.wait_for(ANSWERED)
    assert page.value(ERROR) == ""
    assert "large.png (8000 × 6000, scaled down), captioned" in page.value(
        "document.querySelector('#status').textContent"
    )


def test_the_camera(page: Browser) -> None:
    """A stream takes the place of the device, which this machine does not have; then the permission is refused."""
    fake = "navigator.mediaDevices.getUserMedia = async () => "
    page.value(
        f"{fake} {{ const canvas = document.createElement('canvas'); canvas.getContext('2d').fillRect(0, 0, 9, 9); "
        "return canvas.captureStream(); }; document.querySelector('#open-camera').click()"
    )
    page.wait_for("document.querySelector('#video').videoWidth > 0 && !document.querySelector('#camera').hidden")
    page.value("document.querySelector('#take').click()")
    page.wait_for(ANSWERED)
    assert page.value("document.body.dataset.answered") == "The camera's picture"
    assert page.value("document.querySelector('#camera').hidden")
    page.value(
        f"{fake} {{ throw new DOMException('no', 'NotAllowedError'); }}; document.querySelector('#open-camera').click()"
    )
    assert page.wait_for(ERROR).startswith("This page may not use the camera: allow it")


def test_a_browser_without_simd_is_told_so(browser: Browser, site: Site) -> None:
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source="WebAssembly.validate = () => false")
    try:
        with serving_folder(site.folder) as address:
            browser.go(address)
            message = browser.wait_for(ERROR)
        assert message.startswith("This browser does not have WebAssembly SIMD, which this page needs. Use a newer one")
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip, "is not the file that was exported: its checksum (SHA-256) differs."),
        (
            lambda path: path.write_bytes(path.read_bytes()[:99]),
            "is not the file that was exported: it has 99 bytes instead of",
        ),
        (Path.unlink, "could not be loaded: the server answers with status 404."),
    ],
    ids=["altered", "cut", "missing"],
)
@pytest.mark.parametrize("name", ["step.onnx", "ort-wasm-simd-threaded.wasm"])
def test_a_broken_file_of_the_model_is_one_message(
    browser: Browser, site: Site, tmp_path: Path, name: str, damage: Callable[[Path], object], message: str
) -> None:
    copied = Path(shutil.copytree(site.folder, tmp_path / "copy"))
    damage(copied / name)
    with serving_folder(copied) as address:
        browser.go(address)
        assert browser.wait_for(ERROR).startswith(f"{name} {message}")


def test_a_broken_file_is_loaded_again_from_a_mended_server(browser: Browser, site: Site, tmp_path: Path) -> None:
    """Nothing that is wrong is kept in the browser."""
    copied = Path(shutil.copytree(site.folder, tmp_path / "copy"))
    _flip(copied / "encoder.onnx")
    with serving_folder(copied) as address:
        browser.go(address)
        assert browser.wait_for(ERROR).startswith("encoder.onnx is not the file")
        broken = (copied / "encoder.onnx").stat()
        _flip(copied / "encoder.onnx")
        os.utime(copied / "encoder.onnx", ns=(broken.st_atime_ns, broken.st_mtime_ns))  # as where a copy keeps times
        browser.go(address)
        browser.wait_for(LOADED)
        assert browser.value(ERROR) == ""
