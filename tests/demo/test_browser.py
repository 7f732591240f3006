"""The page in a browser: by mouse and by keyboard, wide and narrow, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.demo.examples import EXAMPLES
from tests.demo.browser import CHROMIUM, Browser
from tests.demo.conftest import Client

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]

MEASURES = (Path(__file__).parent / "measures.js").read_text(encoding="utf-8")
WORDS = ".caption button"
ATTENDED = "texts('.caption .attended')[0]"
ROWS = ".card:first-child tbody tr"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, client: Client) -> Iterator[Browser]:
    """The page on a wide screen; no test may cause a script error or a request to another server."""
    browser.screen(1280, 900)
    browser.go(client.address)
    browser.value(MEASURES)
    browser.wait_for("all('#examples img').length")
    yield browser
    for event in browser.events:
        if event["method"] == "Network.requestWillBeSent":
            assert event["params"]["request"]["url"].startswith((client.address, f"blob:{client.address}")), event
        assert event["method"] not in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"), event
        if event["method"] == "Log.entryAdded":  # a rejected request, which the page reports, is in the console, too
            entry = event["params"]["entry"]
            is_place = "/line?ticket=" in entry.get("url", "")  # 404 where the photo has just been captioned
            assert f"the server responded with a status of {404 if is_place else 400}" in entry["text"], event


def give(page: Browser, photo: Path) -> None:
    """Choose a photo and wait for its captions."""
    page.choose_file("#file", photo)
    page.wait_for(f"document.body.dataset.answered === '{photo.name}'")


@pytest.fixture
def answered(page: Browser, home: Path) -> Browser:
    """The page after a photo was captioned by both models, by sampling, which gives captions of several words."""
    page.value("document.querySelector('[value=sample]').click()")
    give(page, home / "data" / "003.png")
    page.wait_for(f"all('{WORDS}').length > 2")
    return page


def test_a_photo_is_captioned_by_both_models_side_by_side(page: Browser, home: Path) -> None:
    give(page, home / "data" / "003.png")
    assert page.value("texts('h2')") == ["run", "blind"]
    left, right = page.value("boxes('.card')")
    assert left["top"] == right["top"]
    assert left["right"] < right["left"]
    assert "no attention" in page.value("texts('.attention-note')[1]")
    assert "Caption: " in page.value("texts('#status')[0]")  # for screen readers


def test_scores_are_those_of_the_answer(page: Browser, client: Client, home: Path) -> None:
    photo = home / "data" / "003.png"
    give(page, photo)
    rows = page.value(f"all('{ROWS}').map((row) => [...row.cells].map((cell) => cell.textContent))")
    query = "model=0&search=beam&beam_width=3&length_penalty=0"
    captions = client.post(f"/caption?{query}", photo.read_bytes()).json()["captions"]
    assert len(rows) == len(captions) == 3
    for (text, log_prob, length, score), caption in zip(rows, captions, strict=True):
        assert text == (caption["text"] or "(empty caption)")
        assert int(length) == caption["length"]
        assert float(log_prob) == pytest.approx(caption["log_prob"], abs=0.006)
        assert float(score) == pytest.approx(caption["score"], rel=0.006)  # three digits


def test_pointing_at_a_word_shows_its_attention(answered: Browser) -> None:
    word = answered.value(f"texts('{WORDS}')[1]")
    click = f"all('{WORDS}')[1].click()"
    assert not answered.value("isPainted()")
    answered.point_at(f"{WORDS}:nth-of-type(2)")
    assert answered.wait_for(ATTENDED) == word
    assert answered.value("isPainted()")
    assert f"“{word}” attends" in answered.value("texts('.attention-note')[0]")
    answered.point_at("h1")
    answered.wait_for("!isPainted()")
    answered.value(click)  # selected until it is clicked again
    answered.point_at("h1")
    assert answered.value("isPainted()")
    answered.value(click)
    assert not answered.value("isPainted()")


def test_by_keyboard_alone(page: Browser) -> None:
    """Tab to an example, Enter, Tab to the words, and arrow keys along them."""
    for _ in range(2):
        page.press("Tab")
    assert page.value("document.activeElement.querySelector('img').alt") == "Example 1"
    page.press("Enter")
    page.wait_for("document.body.dataset.answered === 'Example 1'")
    for _ in EXAMPLES:  # the other examples, then the search
        page.press("Tab")
    assert page.value("document.activeElement.value") == "beam"
    page.press("ArrowRight")
    page.wait_for(f"all('{WORDS}').length > 2 && !document.querySelector('[aria-busy]')")
    for _ in range(4):  # temperature, seed, the button, the first word
        page.press("Tab")
    words = page.value(f"texts('{WORDS}')")
    place = f"all('{WORDS}').indexOf(document.activeElement)"
    last = len(words) - 1
    assert page.value(place) == 0
    for key, expected in (("ArrowRight", 1), ("End", last), ("ArrowRight", last), ("Home", 0), ("ArrowLeft", 0)):
        page.press(key)
        assert page.value(place) == expected, key
        assert page.value(ATTENDED) == words[expected]
        assert page.value("isPainted()")
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.press("Enter")
    assert page.value("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.press("Escape")
    assert not page.value("isPainted()")


def test_another_caption_of_the_search_can_be_selected(page: Browser, home: Path) -> None:
    give(page, home / "data" / "003.png")
    page.value(f"all('{ROWS} button')[1].click()")
    assert page.value(f"all('{ROWS} button').map((b) => b.getAttribute('aria-pressed'))") == ["false", "true", "false"]
    assert page.value(f"all('.caption')[0].getAttribute('aria-label') === 'Caption: ' + texts('{ROWS} button')[1]")


def test_errors_are_messages_on_the_page(page: Browser, tmp_path: Path) -> None:
    for name, content, message in (
        ("text.jpg", b"no image", "text.jpg: This file is not an image in a supported format"),
        ("large.png", b"x" * (20 * 1024**2 + 1), "large.png: This file is too large: expected 20 MB at most."),
        ("empty.png", b"", "empty.png: This file is empty"),
    ):
        (tmp_path / name).write_bytes(content)
        page.choose_file("#file", tmp_path / name)
        page.wait_for(f"texts('#error')[0].startsWith({message!r}) && all('#error')[0].checkVisibility()")
    assert page.value("all('.card').length") == 0


def test_a_photo_chosen_before_the_server_has_answered_waits(page: Browser, client: Client, home: Path) -> None:
    slow = """const original = fetch, blocked = new Promise((done) => { window.release = done; });
      window.fetch = async (path, options) => {
        if (path === "models") await blocked;
        return original(path, options);
      };"""
    script = page.call("Page.addScriptToEvaluateOnNewDocument", source=slow)["identifier"]
    try:
        page.go(client.address)
        page.value(MEASURES)
        page.choose_file("#file", home / "data" / "003.png")
        page.value("new Promise((done) => setTimeout(done, 200))")
        assert not page.value("all('#error')[0].checkVisibility()")
        page.value("release()")
        page.wait_for("document.body.dataset.answered === '003.png'")
    finally:
        page.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_a_drop_and_a_paste(page: Browser) -> None:
    """A dropped and a pasted file are captioned; a drop without a file gets a message."""
    for kind, event, key in (("drop", "DragEvent", "dataTransfer"), ("paste", "ClipboardEvent", "clipboardData")):
        page.value(f"""(async () => {{
          const transfer = new DataTransfer();
          const content = await (await fetch("examples/1")).blob();
          transfer.items.add(new File([content], "by {kind}.png", {{type: "image/png"}}));
          document.body.dispatchEvent(new {event}("{kind}", {{{key}: transfer, bubbles: true, cancelable: true}}));
        }})()""")
        page.wait_for(f"document.body.dataset.answered === 'by {kind}.png'")
    page.value("document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer(), bubbles: true}))")
    page.wait_for("texts('#error')[0].startsWith('There was no file')")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_readable_on_any_screen(answered: Browser, width: int, dark: bool) -> None:
    """No horizontal scrolling, WCAG's text contrast (4.5 to 1) and touch targets (24 pixels)."""
    answered.screen(width, 800, dark=dark, touch=width < 500)
    answered.value(f"all('{WORDS}')[0].click()")
    assert answered.value("document.documentElement.scrollWidth") <= width
    texts = answered.value("contrasts()")
    assert len(texts) > 20
    assert [text for text in texts if text["contrast"] < 4.5] == []
    assert min(box["height"] for box in answered.value(f"boxes('{WORDS}, .button, .choices label')")) >= 24
    assert answered.value("boxes('.stage canvas')") == answered.value("boxes('.stage img')")
    assert answered.value("withoutName().length") == 0
