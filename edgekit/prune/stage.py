"""The prune stage: a trained Keras model in, a smaller trained Keras model out; and its control."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from edgekit import keras_io
from edgekit.progress import Progress
from edgekit.prune.candidate import CONTROL, STUDENT, Candidate, Cutter, Uncut, What
from edgekit.prune.judging.held import Judge
from edgekit.prune.keras.graph import analyze
from edgekit.prune.latency.costs import predictions
from edgekit.prune.order import Order
from edgekit.prune.recovery.pace import effort
from edgekit.prune.schooling import Schooling
from edgekit.prune.selection.search import Search, best
from edgekit.prune.side_by_side import Team, Wanted, at_once

MODEL, CURVE = "pruned.keras", "curve"
_READY = 0.08  # of the progress: everything before the first training
_OF_A_STUDENT: dict[str, Any] = {"frozen": [], "widths": [], "target_reached": True, "cost": "", "notes": []}
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
    settings, aim = order.settings, order.aim
    keras_io.deterministic(settings["seed"])
    ready = order.schooling(work, progress)
    macs, student = analyze(ready.original).macs(), order.pupil(ready.original)
    cutter, facts = (None, _OF_A_STUDENT) if student else order.cutter(ready, work, progress)
    keep = _amounts(cutter, settings).given(settings, aim) if cutter else None
    if cutter and (why := _amounts(cutter, settings).idle(keep, settings, judged=ready.judges)):
        facts["notes"].append(why)
        if not cutter.thinning.asked:
            return _as_it_came(order.model, out, ready, facts) | {"stage_minutes": (time.monotonic() - began) / 60}
        keep = 1.0  # zeros and thinner pairs of layers are still to be had
    if settings["patience"] or (cutter and keep is None):
        ready = ready.held_apart()
    team = Team(order, work, ready.school.held is not None, at_once(settings, macs, ready.inputs, jobs))
    smaller = _known(keep, student, macs, settings)
    start = _controls_end(settings, smaller)
    both = [] if team.held else smaller  # else controls come first: they judge
    fair = _each_seed(CONTROL, 1.0, settings)[: settings["controls"]]
    wanted = [each for pair in zip_longest(fair, both) for each in pair if each]
    team.train(wanted, _part(progress, _READY, 1.0 if both else start))
    controls = _controls(ready, settings, work, _part(progress, _READY, start))
    school, rest = replace(ready.school, judge=_judge(ready, controls, order)), _part(progress, start, 1.0)
    team.train(smaller, rest)
    if student:
        found = [student.candidate(school, seed, tell, work) for seed, tell in _in_turn(rest, _seeds(settings))]
        facts = facts | {"macs_before": macs, "macs_after": student.macs}
    elif cutter:
        cutter.school = school
        found = _candidates(cutter, keep, team, settings, aim, rest)
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
        "at_once": min(team.at_once, max(1, len(wanted), len(smaller), settings["seeds"] - 1)),
        "stage_minutes": (time.monotonic() - began) / 60,
        "training_samples": ready.samples,
    }


def train(
    *, out: Path, work: Path, progress: Progress, what: What, seed: int, held: bool, **asked: Any
) -> dict[str, Any]:
    """Make one network that ``run`` wants, in ``work``, where it finds it.

    held: some samples are held apart. The control of the first seed judges by them, so it is there already.
    """
    order = Order(**asked)

    def quiet(done: float, text: str) -> None:
        """Who started this process said so already."""

    keras_io.deterministic(order.settings["seed"])
    ready = order.schooling(work, quiet)
    ready = ready.held_apart() if held else ready
    if what == CONTROL:
        return {"name": _control(ready).candidate(ready.school, seed, progress, work).name}
    controls = _controls(ready, order.settings, work, quiet) if held else []
    school = replace(ready.school, judge=_judge(ready, controls, order))
    if student := order.pupil(ready.original):
        return {"name": student.candidate(school, seed, progress, work).name}
    cutter, _ = order.cutter(ready, work, quiet)
    cutter.school = school
    return {"name": cutter.candidate(float(what), seed, progress).name}


def _known(keep: float | None, student: Uncut | None, macs: float, settings: dict[str, Any]) -> list[Wanted]:
    """Return the small networks that will be trained for each seed; none where amounts are searched for first."""
    if student:
        return _each_seed(STUDENT, effort(student.macs / macs), settings)
    return [] if keep is None else _each_seed(keep, effort(keep), settings)


def _each_seed(what: What, share: float, settings: dict[str, Any]) -> list[Wanted]:
    return [Wanted(what, seed, share) for seed in _seeds(settings)]


def _controls(ready: Schooling, settings: dict[str, Any], work: Path, progress: Progress) -> list[Candidate]:
    """Train the unpruned network as the pruned one will be, for the first seeds: the fair thing to compare with."""
    turns = _in_turn(progress, _seeds(settings)[: settings["controls"]], "control, ")
    return [_control(ready).candidate(ready.school, seed, tell, work) for seed, tell in turns]


def _control(ready: Schooling) -> Uncut:
    return Uncut(CONTROL, ready.original, macs=0)


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
    amounts, ((_, tell), *later) = _amounts(cutter, settings), _in_turn(progress, _seeds(settings))
    if keep is not None:
        found = [amounts.make(keep, tell)]
    else:
        found = amounts.by_accuracy(aim["accuracy_drop"], settings["minutes"], tell)
    chosen = best(found, aim["accuracy_drop"]) if len(found) > 1 else found[0]
    more = _each_seed(chosen.keep, effort(chosen.keep), settings)[1:]
    team.train(more, _part(progress, 1 / settings["seeds"], 1.0))
    others = [cutter.candidate(chosen.keep, seed, told) for seed, told in later]
    return [chosen, *(item for item in found if item is not chosen), *others]


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


def _controls_end(settings: dict[str, Any], smaller: Sequence[Wanted]) -> float:
    """Return the progress at which the controls are done."""
    others = sum(each.share for each in smaller) or _SEARCH
    return float(_READY + (1.0 - _READY) * settings["controls"] / (settings["controls"] + others))


def _part(progress: Progress, start: float, end: float, before: str = "") -> Progress:
    return lambda done, text: progress(start + (end - start) * done, before + text)


def _in_turn(progress: Progress, seeds: Sequence[int], before: str = "") -> list[tuple[int, Progress]]:
    """Return each seed and the progress of its training, where one comes after the other."""
    several = bool(before) or len(seeds) > 1
    return [
        (seed, _part(progress, done / len(seeds), (done + 1) / len(seeds), before + f"seed {seed}: " * several))
        for done, seed in enumerate(seeds)
    ]
