"""Score a finished build of the digits detector on scenes that no step and no person chose settings on.

    python -m benchmarks.fresh_scenes BUILD_FOLDER [--scenes 2000]

Needs the `samples` extra. The committed 500 test scenes were looked at while pruning's defaults were found;
these are composed anew, with a seed of their own, from the test digits and photographs.
"""

import argparse
import tempfile
from pathlib import Path

from edgekit import recipe
from edgekit.profile import accuracy
from edgekit.profile.accuracy import PREDICTIONS
from sample_models.digits_detector.coco_files import compose_as_jpeg, write_labelled
from sample_models.digits_detector.make import SEEDS
from sample_models.digits_detector.scenes import load_material

RECIPE = Path(__file__).parents[1] / "sample_models" / "digits_detector" / "edgekit.toml"
BASELINES = {"tflite": "tflite-float32-original", "onnx": "onnx-float32-original"}


def main() -> None:
    """Print one Markdown row per file of the build, each against the float file of its format."""
    options = _parse_options()
    wanted = recipe.load(RECIPE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scenes = compose_as_jpeg(load_material()["test"], options.scenes, SEEDS["extra-test"])
        write_labelled(scenes, folder / "test")
        print(f"| file | mAP@[.5:.95], {options.scenes} scenes | drop, points | 95 % interval |\n|---|---|---|---|")
        for path in _baselines_first(options.build / "variants"):
            out = folder / path.name
            out.mkdir()
            baseline = folder / f"{BASELINES[path.suffix[1:]]}{path.suffix}"
            scored = accuracy.run(
                out=out,
                progress=lambda done, text: None,
                artifact=path,
                format=path.suffix[1:],
                dataset={
                    "kind": "coco",
                    "path": folder / "test",
                    "labels": folder / "test.json",
                    "classes": list(wanted.task.classes),
                    "preprocess": wanted.preprocess.model_dump(mode="json"),
                },
                task=wanted.task.model_dump(mode="json", exclude={"adapter", "classes"}),
                baseline=baseline / PREDICTIONS if baseline != out else None,
                resamples=1000,
                seed=0,
            )
            print(_row(path.name, scored), flush=True)


def _row(name: str, scored: dict[str, float]) -> str:
    drop = scored["drop_points"]
    if drop is None:
        return f"| {name} | {100 * scored['value']:.2f} | | |"
    interval = f"{scored['drop_low_points']:+.2f} to {scored['drop_high_points']:+.2f}"
    return f"| {name} | {100 * scored['value']:.2f} | {drop:+.2f} | {interval} |"


def _baselines_first(folder: Path) -> list[Path]:
    files = [path for path in folder.iterdir() if path.suffix[1:] in BASELINES]
    return sorted(files, key=lambda path: (path.stem not in BASELINES.values(), path.name))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Score a build on fresh scenes.")
    parser.add_argument("build", type=Path, help="the folder of a finished build of sample_models/digits_detector")
    parser.add_argument("--scenes", type=int, default=2000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
