"""The prune stage: a trained Keras model in, a smaller trained Keras model out; and its control."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import keras

from edgekit import keras_io
from edgekit.progress import Progress
from edgekit.prune.candidate import Candidate, Cutter, School, name_of, retrained
from edgekit.prune.judging.held import Judge
from edgekit.prune.keras.functional import as_functional, copy_model
from edgekit.prune.keras.graph import analyze
from edgekit.prune.latency.costs import predictions
from edgekit.prune.order import Order
from edgekit.prune.recovery.pace import effort
from edgekit.prune.schooling import Schooling, check_alike
from edgekit.prune.selection.search import Search, best
from edgekit.prune.side_by_side import Team, Wanted, at_once

MODEL, CURVE = "pruned.keras", "curve"
_READY = 0.08  # of the progress: everything before the first training
_SEARCH = 1.5  # what a search of the amount takes, in trainings of the unpruned network


def run(*, out: Path, work: Path, progress: Progress, jobs: int = 1, **asked: Any) -> dict[str, Any]:
    """Cut channels, prove the cut exact, recover; write ``pruned.keras``, and to ``curve/`` everything that was made.

    ``settings["controls"]`` times the unpruned network is trained as long, too.

    ``asked``: the fields of an Order. ``work`` keeps what is done if this is killed. ``jobs``: how many processes
    there is room for. Raises UnsupportedError where nothing can be cut, StageError where a cut is not exact or
    recovery fails.
    """
    began = time.monotonic()
    order = Order(**asked)
    settings, aim, student = order.settings, order.aim, order.student
    keras_io.deterministic(settings["seed"])
    ready = order.schooling(work, progress)
    cutter, facts = (None, {}) if student else order.cutter(ready, work, progress)
    keep = _amounts(cutter, settings).given(settings, aim) if cutter else None
    if cutter and (why := _amounts(cutter, settings).idle(keep, settings, judged=ready.judges)):
        facts["notes"].append(why)
        if not cutter.thinning.asked:
            return _as_it_came(order.model, out, ready, facts) | {"stage_minutes": (time.monotonic() - began) / 60}
        keep = 1.0  # zeros and thinner pairs of layers are still to be had
    if settings["patience"] or (cutter and keep is None):
        ready = ready.held_apart()
    macs = analyze(ready.original).macs()
    team = Team(order, work, ready.school.held is not None, at_once(settings, macs, ready.inputs, jobs))
    both = cutter is not None and keep is not None and not team.held  # else controls come first: they judge
    cuts = [Wanted(keep, seed) for seed in _seeds(settings)] if both else []
    fair = [Wanted(None, seed) for seed in _seeds(settings)[: settings["controls"]]]
    wanted = [each for pair in zip_longest(fair, cuts) for each in pair if each]
    team.train(wanted, _share(progress, _READY, 1 - _READY if both else _cut_starts(settings) - _READY, ""))
    controls = _controls(ready, settings, work, progress)
    school = replace(ready.school, judge=_judge(ready, controls, order))
    if cutter is None:
        assert student is not None
        found = [_taught_student(student, ready.original, school, settings, work, progress)]
        facts = {"frozen": [], "widths": [], "target_reached": True, "cost": "", "notes": []}
        facts |= {"macs_before": macs, "macs_after": found[0].macs}
    else:
        cutter.school = school
        found = _candidates(cutter, keep, team, settings, aim, progress)
        facts |= _facts(cutter, found[0])
    chosen = found[0]
    shutil.copyfile(chosen.file, out / MODEL)
    (out / CURVE).mkdir()
    for made in (*found, *controls):
        shutil.copyfile(made.file, out / CURVE / f"{made.name}.keras")
    return {
        **facts,
        **chosen.thinned,
        "notes": [*facts["notes"], *ready.notes],
        "recovery": ready.by if settings["epochs"] else "none",
        "recovery_epochs": chosen.epochs,
        "best_epoch": chosen.best_epoch,
        "exactness_error": chosen.exactness_error,
        "parameters_before": int(ready.original.count_params()),
        "parameters_after": chosen.parameters,
        "chosen": chosen.name,
        "judged_by": _judged_by(school.judge, controls),
        "tried": [_tried(made) for made in (*found, *controls)],
        "minutes": sum(candidate.seconds for candidate in found) / 60,
        "control_minutes": sum(taught.seconds for taught in controls) / 60 if controls else None,
        "at_once": team.at_once,
        "stage_minutes": (time.monotonic() - began) / 60,
        "training_samples": ready.samples,
    }


def train(
    *, out: Path, work: Path, progress: Progress, keep: float | None, seed: int, held: bool, **asked: Any
) -> dict[str, Any]:
    """Make one network that ``run`` wants, in ``work``, where it finds it: cut to ``keep``, or None, the control.

    held: some samples are held apart. The control of the first seed judges by them, so it is there already.
    """
    order = Order(**asked)

    def quiet(done: float, text: str) -> None:
        """Who started this process said so already."""

    keras_io.deterministic(order.settings["seed"])
    ready = order.schooling(work, quiet)
    ready = ready.held_apart() if held else ready
    if keep is None:
        return {"name": _control(ready, seed, work, progress).name}
    cutter, _ = order.cutter(ready, work, quiet)
    controls = _controls(ready, order.settings, work, quiet) if held else []
    cutter.school = replace(ready.school, judge=_judge(ready, controls, order))
    return {"name": cutter.candidate(keep, seed, progress).name}


def _controls(ready: Schooling, settings: dict[str, Any], work: Path, progress: Progress) -> list[Candidate]:
    """Train the unpruned network as the pruned one will be, for the first seeds: the fair thing to compare with."""
    found, controls = [], settings["controls"]
    for seed in _seeds(settings)[:controls]:
        width = (_cut_starts(settings) - _READY) / controls
        tell = _share(progress, _READY + width * (seed - settings["seed"]), width, f"control, seed {seed}: ")
        found.append(_control(ready, seed, work, tell))
    return found


def _control(ready: Schooling, seed: int, work: Path, progress: Progress) -> Candidate:
    return retrained(copy_model(ready.original), ready.school, seed, progress, work / name_of(None, seed))


def _judge(ready: Schooling, controls: Sequence[Candidate], order: Order) -> Judge | None:
    """Return who judges amounts on held samples; None where there are none.

    With a control, it is the reference: the unpruned network may have learned the held samples by heart when it
    was made, and every network that is trained without them would seem to lose.
    """
    if ready.school.held is None:
        return None
    reference = keras_io.load(controls[0].file) if controls else ready.original
    held, slack = ready.school.held.inputs, order.aim["slack"]
    return Judge(reference, held, ready.held_truth, ready.classes, order.task, slack)


def _taught_student(
    path: Path, original: keras.Model, school: School, settings: dict[str, Any], work: Path, progress: Progress
) -> Candidate:
    student = as_functional(keras_io.load(path))
    check_alike(student, original, f"prune.student {path.name}")
    macs, start = analyze(student).macs(), _cut_starts(settings)
    tell = _share(progress, start, 1 - start, "")
    return replace(retrained(student, school, settings["seed"], tell, work / "student"), macs=macs)


def _amounts(cutter: Cutter, settings: dict[str, Any]) -> Search[Candidate]:
    def make(keep: float, tell: Progress) -> Candidate:
        return cutter.candidate(keep, settings["seed"], tell)

    return Search(cutter.graph, cutter.cost, cutter.choice, make)


def _as_it_came(model: Path, out: Path, ready: Schooling, facts: dict[str, Any]) -> dict[str, Any]:
    """Let the unpruned network go on, byte by byte, so that nothing is made of it twice."""
    if model.suffix == Path(MODEL).suffix:
        shutil.copyfile(model, out / MODEL)
    else:
        keras_io.save(ready.original, out / MODEL)
    (out / CURVE).mkdir()
    macs, parameters = int(analyze(ready.original).macs()), int(ready.original.count_params())
    return {
        **facts,
        "notes": [*facts["notes"], *ready.notes],
        "macs_before": macs,
        "macs_after": macs,
        "parameters_before": parameters,
        "parameters_after": parameters,
        "recovery": "none: nothing was cut",
        "recovery_epochs": 0,
        "exactness_error": None,
        "tried": [],
        "training_samples": 0,
    }


def _candidates(
    cutter: Cutter, keep: float | None, team: Team, settings: dict[str, Any], aim: dict[str, Any], progress: Progress
) -> list[Candidate]:
    """Return every network that was made, the chosen one first; without ``keep``, the amount is searched for."""
    start, seeds = _cut_starts(settings), settings["seeds"]
    amounts = _amounts(cutter, settings)
    tell = _share(progress, start, (1 - start) / seeds, "")
    if keep is not None:
        team.train([Wanted(keep, seed) for seed in _seeds(settings)], _share(progress, start, 1 - start, ""))
        found = [amounts.make(keep, tell)]
    else:
        found = amounts.by_accuracy(aim["accuracy_drop"], settings["minutes"], tell)
    chosen = best(found, aim["accuracy_drop"]) if len(found) > 1 else found[0]
    others = [Wanted(chosen.keep, seed) for seed in _seeds(settings)[1:]]
    team.train(others, _share(progress, start + (1 - start) / seeds, (1 - start) * (seeds - 1) / seeds, ""))
    again = [
        cutter.candidate(
            chosen.keep, seed, _share(progress, 1 - (1 - start) * (seeds - number) / seeds, 0.0, f"seed {seed}: ")
        )
        for number, seed in enumerate(_seeds(settings)[1:], 1)
    ]
    return [chosen, *(item for item in found if item is not chosen), *again]


def _facts(cutter: Cutter, best: Candidate) -> dict[str, Any]:
    selection = cutter.selection(best.keep)
    return {
        "macs_before": int(selection.macs_before),
        "macs_after": best.macs,
        "target_reached": bool(selection.reached),
        "predicted": predictions(cutter.cost, cutter.graph, selection.mask(cutter.graph)),
        "widths": [[list(width.layers), width.before, width.after] for width in selection.widths],
    }


def _tried(candidate: Candidate) -> dict[str, Any]:
    names = ("name", "keep", "seed", "macs", "parameters", "epochs", "best_epoch", "seconds", "drop_points", "refit")
    return {name: getattr(candidate, name) for name in names} | {"unsolved": list(candidate.unsolved)}


def _judged_by(judge: Judge | None, controls: Sequence[Candidate]) -> str:
    if judge is None:
        return ""
    return f"{judge.by}, against the {'control' if controls else 'unpruned model'}"


def _seeds(settings: dict[str, Any]) -> range:
    return range(settings["seed"], settings["seed"] + settings["seeds"])


def _cut_starts(settings: dict[str, Any]) -> float:
    """Return the progress at which the controls are done."""
    cut = settings["seeds"] * effort(settings["keep_macs"]) if settings["keep_macs"] != "auto" else _SEARCH
    return float(_READY + (1.0 - _READY) * settings["controls"] / (settings["controls"] + cut))


def _share(progress: Progress, start: float, width: float, before: str) -> Progress:
    return lambda done, text: progress(start + width * done, before + text)
