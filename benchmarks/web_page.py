"""The page without a server in Chromium: seconds per caption, bytes, and captions of JPEG files beside Pillow's.

    python benchmarks/web_page.py [--checkpoint flickr8k] [--rounds 5] [--photos DIR --most 50] [--screenshots DIR]

Exports the page, serves it on this machine, and measures the median time of a caption after loading (decoding, encoder,
search), on the clock and of the processor (all that Chromium uses meanwhile). --photos: JPEG files, captioned
by the page and by `captioner.runtime`, once as they are and once as PNG files that Pillow decoded. --screenshots: also
writes web.png and web_phone.png, as in docs/.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from measure import report
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from captioner.runtime import OnnxCaptioner  # noqa: E402
from tests.demo.browser import Browser  # noqa: E402

PHOTO = ROOT / "docs" / "pretrained" / "cat.jpg"
LOADED = "document.body.dataset.offline || document.body.classList.contains('failed')"
CAPTION = """
(async () => {
  const { ready } = await import("./page.js");
  const { decodePhoto } = await import("./photo.js");
  const { worker } = await ready;
  const file = await (await fetch(PATH)).blob();
  const begin = performance.now();
  const { bitmap } = await decodePhoto(file);
  const { captions } = await worker.caption(PATH, bitmap, {}, 4);
  return JSON.stringify([captions[0].text, (performance.now() - begin) / 1000]);
})()
"""


class Quiet(SimpleHTTPRequestHandler):
    """A handler that prints nothing."""

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="flickr8k")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--most", type=int, default=50)
    parser.add_argument("--screenshots", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        site = Path(temporary) / "site"
        export = ["export", "--checkpoint", arguments.checkpoint, "--web", str(site)]
        subprocess.run([sys.executable, "-m", "captioner", *export], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        (site / "photos").mkdir()
        serve = functools.partial(Quiet, directory=str(site))
        with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server, Browser(Path(temporary) / "profile") as page:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            page.screen(1280, 860)
            page.go(f"http://127.0.0.1:{server.server_address[1]}/")
            page.wait_for(LOADED)
            results: dict[str, Any] = {
                "bytes": json.loads((site / "site.json").read_text(encoding="utf-8"))["sizes"],
                "browser": page.call("Browser.getVersion")["product"],
                **measure(page, site, arguments.rounds),
            }
            if arguments.photos is not None:
                photos = sorted(arguments.photos.glob("*.jpg"))[: arguments.most]
                results |= {"photos": len(photos), "equal": compare(page, site, photos, arguments.checkpoint)}
            if arguments.screenshots is not None:
                write_screenshots(page, arguments.screenshots)
            server.shutdown()
    report("web_page", results)


def caption(page: Browser, site: Path, content: bytes, name: str) -> tuple[str, float]:
    """The page's best caption of a photo, and the seconds that it took."""
    (site / "photos" / name).write_bytes(content)
    text, seconds = json.loads(page.value(CAPTION.replace("PATH", json.dumps(f"photos/{name}"))))
    return text, seconds


def measure(page: Browser, site: Path, rounds: int) -> dict[str, float]:
    """Median seconds of captioning one photo, on the clock and of the processor; the first time is a warm-up."""
    clock, processor = [], []
    for _ in range(rounds + 1):
        before = processor_seconds()
        clock.append(caption(page, site, PHOTO.read_bytes(), "photo.jpg")[1])
        processor.append(processor_seconds() - before)
    return {"seconds": statistics.median(clock[1:]), "processor_seconds": statistics.median(processor[1:])}


def processor_seconds() -> float:
    """Of all processes that this one has started, and theirs, and so on."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)], used[int(stat.parent.name)] = (
                int(fields[1]),
                int(fields[11]) + int(fields[12]),
            )
    ours, added = set(), {os.getpid()}
    while added:
        ours |= added
        added = {process for process, parent in parents.items() if parent in ours} - ours
    return sum(used[process] for process in ours - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def compare(page: Browser, site: Path, photos: list[Path], checkpoint: str) -> dict[str, int]:
    """How many captions of JPEG and of PNG files are those of captioner.runtime."""
    captioner = OnnxCaptioner.pretrained(checkpoint, threads=1)
    equal = {"jpg": 0, "png": 0}
    for photo in photos:
        expected = captioner.caption(photo).text
        png = site / "photos" / f"{photo.stem}.png"
        Image.open(photo).convert("RGB").save(png, compress_level=1)
        equal["jpg"] += caption(page, site, photo.read_bytes(), photo.name)[0] == expected
        equal["png"] += caption(page, site, png.read_bytes(), png.name)[0] == expected
    return equal


def write_screenshots(page: Browser, folder: Path) -> None:
    """The page with a caption and one word's attention, wide and as on a phone."""
    page.choose_file("#file", PHOTO)
    page.wait_for("document.body.dataset.answered")
    words = page.value("[...document.querySelectorAll('.caption button')].map((word) => word.textContent)")
    longest = max(range(len(words)), key=lambda index: len(words[index]))
    page.value(f"document.querySelectorAll('.caption button')[{longest}].click()")
    page.value("scrollTo(0, 0)")
    page.image(folder / "web.png")
    page.screen(390, 844, touch=True)
    page.image(folder / "web_phone.png")
    for name in ("web.png", "web_phone.png"):
        Image.open(folder / name).convert("RGB").quantize(200).save(folder / name, optimize=True)


if __name__ == "__main__":
    main()
