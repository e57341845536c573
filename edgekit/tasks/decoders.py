"""Read what a detector puts out, family by family: boxes as corners in pixels and one score per class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import RecipeError

Array = npt.NDArray[Any]
Outputs = dict[str, Array]
_SIDES = 4  # numbers of a box
_FINAL = 6  # x1, y1, x2, y2, score, class


def boxes_and_scores(outputs: Outputs, task: dict[str, Any]) -> tuple[Array, Array]:
    """Read boxes (1, N, 4) and scores (1, N, C) into (N, 4) and (N, C)."""
    boxes = _output(outputs, "boxes_output", task)
    scores = _output(outputs, "scores_output", task)
    if boxes.ndim != 3 or scores.ndim != 3 or boxes.shape != (1, scores.shape[1], _SIDES):
        raise RecipeError(
            f"Detection reads boxes (1, N, 4) and scores (1, N, C); found {boxes.shape} and {scores.shape}.",
            "Set task.boxes_output and task.scores_output to the outputs with these shapes.",
        )
    _check_classes(scores.shape[2], "scores_output", task)
    return _corners(boxes[0], task), scores[0].astype(np.float32)


def rows(outputs: Outputs, task: dict[str, Any]) -> tuple[Array, Array]:
    """Read one output (1, N, 4 + C), or (1, 4 + C, N) as YOLO puts it out, with one more number for objectness."""
    joined = _output(outputs, "detections_output", task)
    extra = _SIDES + bool(task.get("objectness"))
    named = len(task.get("classes") or ())
    table = joined[0].astype(np.float32) if joined.ndim == 3 and len(joined) == 1 else np.zeros((0, 0), np.float32)
    if table.shape[1] != extra + named and (table.shape[0] == extra + named or table.shape[0] < table.shape[1]):
        table = table.T
    if table.shape[1] <= extra:
        raise RecipeError(
            f"Decoder 'rows' reads (1, N, {extra} + C); output {task['detections_output']!r} is {joined.shape}.",
            "Set task.detections_output to the output with this shape.",
        )
    _check_classes(table.shape[1] - extra, "detections_output", task)
    scores = table[:, extra:]
    return _corners(table[:, :_SIDES], task), scores * table[:, _SIDES:extra] if extra > _SIDES else scores


def final(outputs: Outputs, task: dict[str, Any]) -> Outputs:
    """Read (1, N, 6) rows of corners, score and class that the network itself has suppressed; best first."""
    table = _output(outputs, "detections_output", task)
    if table.ndim != 3 or table.shape[0] != 1 or table.shape[2] != _FINAL:
        raise RecipeError(
            f"Decoder 'final' reads (1, N, 6); output {task['detections_output']!r} is {table.shape}.",
            "Its rows are x1, y1, x2, y2, score, class.",
        )
    found = table[0][table[0, :, 4] > task["score_threshold"]].astype(np.float32)
    found = found[np.argsort(-found[:, 4], kind="stable")][: task["max_detections"]]
    category = np.rint(found[:, 5]).astype(np.int64)
    named = len(task.get("classes") or ())
    if named and len(category) and (category.min() < 0 or category.max() >= named):
        raise RecipeError(
            f"Output {task['detections_output']!r} found class {category.max()}; task.classes names {named}."
        )
    return {"boxes": _corners(found[:, :_SIDES], task), "scores": found[:, 4], "classes": category}


RAW: dict[str, Callable[[Outputs, dict[str, Any]], tuple[Array, Array]]] = {
    "boxes_scores": boxes_and_scores,
    "rows": rows,
}


def _corners(boxes: Array, task: dict[str, Any]) -> Array:
    """Return (N, 4) x1, y1, x2, y2 with no negative side."""
    a, b, c, d = boxes.astype(np.float32).T
    kinds = {
        "xyxy": (a, b, c, d),
        "yxyx": (b, a, d, c),
        "cxcywh": (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
    }
    corners = np.stack(kinds[task.get("box_format", "xyxy")], axis=1)
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2])
    return corners


def _check_classes(found: int, key: str, task: dict[str, Any]) -> None:
    named = len(task.get("classes") or ())
    if named and found != named:
        raise RecipeError(f"Output {task[key]!r} scores {found} classes, task.classes names {named}.")


def _output(outputs: Outputs, key: str, task: dict[str, Any]) -> Array:
    name = task[key]
    if name not in outputs:
        raise RecipeError(
            f"The model has no output {name!r}, which task.{key} names; it has {', '.join(sorted(outputs))}.",
            f"Set task.{key} to one of them.",
        )
    if not np.issubdtype(outputs[name].dtype, np.floating):
        raise RecipeError(
            f"Output {name!r} holds {outputs[name].dtype} numbers; detection reads floats.",
            "Keep the model's inputs and outputs float; the layers inside may be quantized.",
        )
    return outputs[name]
