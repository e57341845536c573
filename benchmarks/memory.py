"""Peak memory of every step of a build, with few and with many images: it must not grow with their number.

.venv/bin/python -m benchmarks.memory --images 10 10000 --out /tmp/memory
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

SAMPLE = Path(__file__).parents[1] / "sample_models/fashion_classifier"
CLASSES = [f"class-{number}" for number in range(10)]
RECIPE = """schema = 1
[model]
path = "model.keras"
[task]
kind = "classification"
classes = {classes}
[data]
kind = "imagefolder"
test = "test"
calibration = "calibration"
[preprocess]
color = "gray"
scale = [0.00392156862745098]
[budget]
accuracy_drop = 100.0
[prune]
enabled = false
[quantize]
calibration_samples = {images}
search_seconds = 20.0
[profile]
min_seconds = 0.1
[targets]
names = ["raspberry-pi-4"]
"""


def write_project(folder: Path, images: int) -> None:
    """Write a recipe with ``images`` test and as many calibration images, all different."""
    generator = np.random.default_rng(images)
    with np.load(SAMPLE / "data/test.npz") as stored:
        pixels, labels = stored["x"].reshape(-1, 28, 28), stored["y"]
    for part in ("test", "calibration"):
        for number in range(images):
            source = number % len(pixels)
            place = folder / part / (f"class-{labels[source]}" if part == "test" else "")
            place.mkdir(parents=True, exist_ok=True)
            noisy = np.clip(pixels[source] + generator.normal(0, 8, (28, 28)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(place / f"{number:05}.png")
    shutil.copyfile(SAMPLE / "model.keras", folder / "model.keras")
    (folder / "edgekit.toml").write_text(RECIPE.format(images=images, classes=CLASSES))


def peaks(folder: Path) -> dict[str, float]:
    """Build, and return the peak resident megabytes of every step's process, and of the one that builds."""
    found: dict[str, float] = {}
    names: dict[int, str] = {}
    words = [sys.executable, "-m", "edgekit", "build", "-c", str(folder), "-o", str(folder / "out"), "-j", "1"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as build:
        parent = psutil.Process(build.pid)
        while build.poll() is None:
            for process in [parent, *_children(parent)]:
                name = names.setdefault(process.pid, _name(process))
                found[name] = max(found.get(name, 0.0), _peak_mb(process.pid))
            time.sleep(0.05)
    if build.returncode not in (0, 7):
        raise SystemExit(f"the build ended in {build.returncode}")
    return found


def _children(parent: psutil.Process) -> list[psutil.Process]:
    try:
        return parent.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _name(process: psutil.Process) -> str:
    try:
        request = next((word for word in process.cmdline() if word.endswith("request.json")), "")
        return str(json.loads(Path(request).read_text())["function"]) if request else "the build itself"
    except (psutil.Error, OSError, ValueError, KeyError):
        return "ended"


def _peak_mb(pid: int) -> float:
    """Return VmHWM: what the kernel itself remembers as the highest."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[10, 10_000])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    columns = {}
    for images in given.images:
        folder = given.out / str(images)
        write_project(folder, images)
        start = time.monotonic()
        columns[images] = peaks(folder)
        print(f"{images} images: {time.monotonic() - start:.0f} s", file=sys.stderr)
    print("| step | " + " | ".join(f"{images} images, MB" for images in columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        print(f"| {name} | " + " | ".join(f"{column.get(name, 0):.0f}" for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
