"""From `python train.py` to the first step: processor seconds and peak memory of each process.

    python benchmarks/coco_start.py data=coco data.root=DIR encoder.image_size=64 …
    python benchmarks/coco_start.py --before FOLDER data=coco …     also the build in another checkout, in turns

The settings are those of train.py; benchmarks/coco_shape.py makes a data set of COCO's size. Each start ends when the
optimizer's first step is done. The feature cache is filled by a start that is not counted. Workers count with their
process. Memory is that of the process's own pages (anonymous ones) at most, and all of its pages, files included, at
most.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from process_memory import memory_of

HERE = Path(__file__).resolve().parents[1]
FIRST_STEP = """
import json, os, resource, runpy, sys
from torch.optim.optimizer import register_optimizer_step_post_hook

def report(optimizer, arguments, options):
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps({"first step": sum(one.ru_utime + one.ru_stime for one in used)}), flush=True)
    if not os.environ.get("COCO_START_PROFILE"):
        os._exit(0)

register_optimizer_step_post_hook(report)
sys.argv = ["train.py", *sys.argv[1:]]
if os.environ.get("COCO_START_PROFILE"):
    import cProfile, pstats
    profile = cProfile.Profile()
    def show(optimizer, arguments, options):
        profile.disable()
        pstats.Stats(profile).sort_stats("cumulative").print_stats(70)
        sys.stdout.flush()
        os._exit(0)
    register_optimizer_step_post_hook(show)
    profile.enable()
runpy.run_path("train.py", run_name="__main__")
"""


def start(folder: Path, settings: list[str]) -> dict[str, float]:
    """Start the training of the checkout `folder`; returns processor seconds and peak memory in MB."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-c", FIRST_STEP, f"hydra.run.dir={runs}/run", *settings]
        environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        peak = {"RssAnon": 0, "VmHWM": 0}

        def watch() -> None:
            while process.poll() is None:
                for name, size in memory_of(process.pid).items():
                    peak[name] = max(peak.get(name, 0), size)
                time.sleep(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        output, errors = process.communicate()
        watcher.join()
    if os.environ.get("COCO_START_PROFILE"):
        sys.stdout.write(output)
    lines = [line for line in output.splitlines() if "first step" in line]
    if not lines:
        raise SystemExit(f"No first step: {output[-2000:]}{errors[-3000:]}")
    return {
        "processor_s": round(json.loads(lines[-1])["first step"], 1),
        "own_MB": peak["RssAnon"] // 1_000_000,
        "peak_MB": peak["VmHWM"] // 1_000_000,
    }


def main() -> None:
    """Measure, and print one JSON line per start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="another checkout, to compare with")
    parser.add_argument("--repeat", type=int, default=3, help="starts of each build (default: 3)")
    parser.add_argument("--cold", action="store_true", help="count the first start, which fills the cache")
    arguments, settings = parser.parse_known_args()
    folders = {"before": arguments.before.resolve()} if arguments.before else {}
    folders["now"] = HERE
    caches = {name: tempfile.mkdtemp(prefix=f"cache-{name}-") for name in folders}
    for number in range(arguments.repeat + 1):
        for name, folder in folders.items():
            measured = start(folder, [*settings, f"cache.directory={caches[name]}"])
            if number or arguments.cold:
                sys.stdout.write(json.dumps({"build": name, **measured}) + "\n")
                sys.stdout.flush()
    for cache in caches.values():
        shutil.rmtree(cache)


if __name__ == "__main__":
    main()
