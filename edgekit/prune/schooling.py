"""What pruning learns from: the unpruned network, its samples, its teacher, and the school they make."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit import keras_io
from edgekit.artifact import TensorSpec
from edgekit.dataset import Dataset, Preprocess, open_dataset
from edgekit.errors import RecipeError
from edgekit.progress import Progress
from edgekit.prune.candidate import School
from edgekit.prune.judging.held import Split
from edgekit.prune.keras.functional import as_functional
from edgekit.prune.keras.signature import Arrays, input_names, output_shapes, sample_count
from edgekit.prune.recovery.augmentation import has_images
from edgekit.prune.recovery.batches import Lesson
from edgekit.prune.recovery.losses import teaching
from edgekit.prune.recovery.pace import MOST_BYTES, affordable_epochs, affordable_samples
from edgekit.prune.recovery.training import RecoverySettings
from edgekit.prune.selection import amount


@dataclass(frozen=True)
class Schooling:
    """The unpruned network, its samples, and the school they make.

    truth: of every sample, None without labels. held_truth: of those that are held apart.
    """

    original: keras.Model
    inputs: Arrays
    school: School
    truth: Sequence[Any] | None
    classes: Sequence[str]
    by: str
    notes: tuple[str, ...] = ()
    held_truth: Any = None

    @property
    def samples(self) -> int:
        """How many samples are learned from."""
        return sample_count(self.school.lesson.inputs)

    @property
    def judges(self) -> bool:
        """Say whether there are samples enough to hold some apart."""
        return len(Split.of(sample_count(self.inputs)).held) > 0

    def held_apart(self) -> Schooling:
        """Take some samples out of the lesson, to judge by; none where there are too few."""
        if not self.judges:
            return self
        split, whole = Split.of(sample_count(self.inputs)), self.school.lesson
        held = whole.part(split.held)
        others = None if whole.others is None else _unlike(whole.others, held.inputs)
        school = replace(self.school, lesson=replace(whole.part(split.train), others=others), held=held)
        truth = None if self.truth is None else _as_truth([self.truth[number] for number in split.held])
        return replace(self, school=school, held_truth=truth)


def load(
    progress: Progress, model: Path, dataset: dict[str, Any], labelled: bool, others: dict[str, Any] | None,
    task: dict[str, Any], adapter: Path | None, teacher: Path | None, settings: dict[str, Any], aim: dict[str, Any],
) -> Schooling:  # fmt: skip
    """Load the model and its samples. Raises RecipeError where a teacher answers in other shapes."""
    progress(0.0, "loading the model")
    original = as_functional(keras_io.load(model))
    specs = _specs(original)
    room = affordable_samples(specs)
    samples, notes = _fitting(dataset, labelled, room, "training")
    inputs = samples.stacked(specs)
    progress(0.02, f"{len(samples)} samples to learn from")
    more = None
    if others and settings["mixed_share"] and has_images(inputs) and room > len(samples):
        unlabelled, left_out = _fitting(others, False, room - len(samples), "unlabelled")
        more, notes = unlabelled.stacked(specs), notes + left_out
    elif others:
        notes += ("data.unlabelled was not used: it is for images, with prune.mixed_share above 0 and memory left.",)
    learned = teaching(original, inputs, samples, labelled, task, adapter, model)
    school = School(
        _teacher(teacher, original), Lesson(inputs, learned.truth, learned.encode, more), learned.loss, None, None,
        RecoverySettings(**{name: settings[name] for name in RecoverySettings.__dataclass_fields__}),
        kindred=teacher is None,
    )  # fmt: skip
    alone = f"distillation alone: {learned.source_text}" if labelled else "distillation"
    by = f"{learned.source_text} + distillation" if learned.loss else alone
    by += f", also on {sample_count(more)} unlabelled samples" if more else ""
    return Schooling(original, inputs, school, samples.truth if labelled else None, samples.classes, by, notes)


def _fitting(dataset: dict[str, Any], labelled: bool, room: int, kind: str) -> tuple[Dataset, tuple[str, ...]]:
    """Open as many samples as there is room for, spread evenly, and say so where there are more."""
    found = open_dataset(
        dataset["kind"], dataset["path"], dataset["labels"], Preprocess.from_json(dataset["preprocess"]),
        labelled=labelled, classes=dataset["classes"],
    )  # fmt: skip
    if len(found) <= room:
        return found, ()
    note = f"Of {len(found)} {kind} samples {room} were used, what {MOST_BYTES >> 30} GB hold."
    return found.spread(room), (note,)


def _unlike(others: Arrays, held: Arrays) -> Arrays | None:
    """Leave out what is held apart, to the byte: the unlabelled may have images of the training folder."""
    known = {_digest(held, number) for number in range(sample_count(held))}
    kept = [number for number in range(sample_count(others)) if _digest(others, number) not in known]
    return {name: array[kept] for name, array in others.items()} if kept else None


def _digest(arrays: Arrays, number: int) -> bytes:
    return hashlib.sha256(b"".join(arrays[name][number].tobytes() for name in sorted(arrays))).digest()


def paced(ready: Schooling, settings: dict[str, Any], work: Path) -> Schooling:
    """Let a search train for fewer epochs where the control and a first amount would not fit into its minutes."""
    wanted = settings["epochs"]
    epochs = affordable_epochs(
        ready.original, ready.school.lesson.inputs, wanted=wanted, batch=settings["batch"],
        networks=amount.FIRST + settings["controls"], minutes=settings["minutes"],
        memo=work / "epochs.json",
    )  # fmt: skip
    if epochs >= wanted:
        return ready
    note = f"{wanted} epochs would take longer than {settings['minutes']:g} minutes: pruning trained for {epochs}."
    school = replace(ready.school, settings=replace(ready.school.settings, epochs=epochs))
    return replace(ready, school=school, notes=(*ready.notes, note))


def _as_truth(truth: list[Any]) -> Any:
    return np.asarray(truth) if truth and np.ndim(truth[0]) == 0 else truth


def _teacher(path: Path | None, original: keras.Model) -> keras.Model:
    """Return the network to learn from. Raises RecipeError where it answers in other shapes."""
    if path is None:
        return original
    teacher = as_functional(keras_io.load(path))
    check_alike(teacher, original, f"prune.teacher {path.name}")
    return teacher


def check_alike(found: keras.Model, wanted: keras.Model, what: str) -> None:
    if input_names(found) != input_names(wanted) or output_shapes(found) != output_shapes(wanted):
        raise RecipeError(
            f"{what} takes {input_names(found)} and gives {output_shapes(found)}; the model takes "
            f"{input_names(wanted)} and gives {output_shapes(wanted)}.",
            "Both need the same inputs and outputs, by name and shape.",
        )


def _specs(model: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, (1, *(int(size) for size in tensor.shape[1:])), str(tensor.dtype))
        for name, tensor in zip(input_names(model), model.inputs, strict=True)
    )
