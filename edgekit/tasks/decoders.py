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
    return _corners(boxes[0], task), _probabilities(scores[0], task)


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
    scores = _probabilities(table[:, _SIDES:], task)
    seen = scores[:, 1:] * scores[:, :1] if extra > _SIDES else scores
    return _corners(table[:, :_SIDES], task), seen


def final(outputs: Outputs, task: dict[str, Any]) -> Outputs:
    """Read (1, N, 6) rows of corners, score and class that the network itself has suppressed; best first."""
    table = _output(outputs, "detections_output", task)
    if table.ndim != 3 or table.shape[0] != 1 or table.shape[2] != _FINAL:
        raise RecipeError(
            f"Decoder 'final' reads (1, N, 6); output {task['detections_output']!r} is {table.shape}.",
            "Its rows are x1, y1, x2, y2, score, class.",
        )
    return _suppressed(table[0, :, :_SIDES], table[0, :, 4], table[0, :, 5], "detections_output", task)


def lists(outputs: Outputs, task: dict[str, Any]) -> Outputs:
    """Read boxes (1, N, 4), scores (1, N) and classes (1, N), suppressed by the network; best first.

    As TF Object Detection's postprocessing puts them out. The count that it adds is not needed: the rest has no score.
    """
    boxes, scores = _output(outputs, "boxes_output", task), _output(outputs, "scores_output", task)
    classes = _output(outputs, "classes_output", task)
    if boxes.ndim != 3 or boxes.shape[0] != 1 or boxes.shape[2] != _SIDES or scores.shape != boxes.shape[:2]:
        raise RecipeError(
            f"Decoder 'lists' reads boxes (1, N, 4) and scores (1, N); found {boxes.shape} and {scores.shape}.",
            "Set task.boxes_output and task.scores_output to the outputs with these shapes.",
        )
    if classes.shape != scores.shape:
        raise RecipeError(f"Output {task['classes_output']!r} is {classes.shape}; the scores are {scores.shape}.")
    return _suppressed(boxes[0], scores[0], classes[0], "classes_output", task)


def heatmap(outputs: Outputs, task: dict[str, Any]) -> tuple[Array, Array]:
    """Read a map of class scores (1, H, W, C) and one of widths and heights (1, H, W, 2), channels last or first.

    A place counts where no neighbour of its class is higher, as CenterNet has it (Zhou et al., arXiv:1904.07850).
    """
    scores, sizes = _output(outputs, "scores_output", task), _output(outputs, "boxes_output", task)
    offsets = _output(outputs, "offsets_output", task) if task.get("offsets_output") else None
    if sizes.ndim == 4 and sizes.shape[3] != 2 and sizes.shape[1] == 2:
        scores, sizes = scores.transpose(0, 2, 3, 1), sizes.transpose(0, 2, 3, 1)
        offsets = None if offsets is None else offsets.transpose(0, 2, 3, 1)
    fits = scores.ndim == 4 and sizes.shape == (1, *scores.shape[1:3], 2)
    if not fits or (offsets is not None and offsets.shape != sizes.shape):
        raise RecipeError(
            f"Decoder 'heatmap' reads scores (1, H, W, C) and sizes (1, H, W, 2); found {scores.shape} and "
            f"{sizes.shape}" + ("." if offsets is None else f", with offsets {offsets.shape}."),
            "Set task.scores_output, task.boxes_output and task.offsets_output to the outputs with these shapes.",
        )
    _check_classes(scores.shape[3], "scores_output", task)
    heat = _probabilities(scores[0], task)
    peaks = np.where(heat >= _neighbours(heat), heat, np.float32(0))
    rows, columns = np.mgrid[: heat.shape[0], : heat.shape[1]].astype(np.float32)
    within = np.full((*heat.shape[:2], 2), 0.5, np.float32) if offsets is None else offsets[0]
    stride = task.get("stride", 4)
    x, y = (columns + within[..., 0]) * stride, (rows + within[..., 1]) * stride
    width, height = np.moveaxis(sizes[0] * (stride if task.get("size_unit") == "places" else 1), -1, 0)
    boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=-1).reshape(-1, _SIDES)
    return boxes.astype(np.float32), peaks.reshape(-1, heat.shape[2])


RAW: dict[str, Callable[[Outputs, dict[str, Any]], tuple[Array, Array]]] = {
    "boxes_scores": boxes_and_scores,
    "rows": rows,
    "heatmap": heatmap,
}
SUPPRESSED: dict[str, Callable[[Outputs, dict[str, Any]], Outputs]] = {"final": final, "lists": lists}


def _neighbours(heat: Array) -> Array:
    """Return the highest of each place (H, W, C) and the eight around it."""
    padded = np.pad(heat, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    height, width = heat.shape[:2]
    around = [padded[row : row + height, column : column + width] for row in range(3) for column in range(3)]
    return np.asarray(np.max(around, axis=0))


def _suppressed(boxes: Array, scores: Array, classes: Array, named_by: str, task: dict[str, Any]) -> Outputs:
    """Keep what is above the threshold, best first; raises RecipeError for a class that has no name."""
    scores = _probabilities(scores, task)
    above = np.nonzero(scores > task["score_threshold"])[0]
    best = above[np.argsort(-scores[above], kind="stable")][: task["max_detections"]]
    category = np.rint(classes[best]).astype(np.int64)
    named = len(task.get("classes") or ())
    if named and len(category) and (category.min() < 0 or category.max() >= named):
        raise RecipeError(f"Output {task[named_by]!r} found class {category.max()}; task.classes names {named}.")
    return {"boxes": _corners(boxes[best], task), "scores": scores[best], "classes": category}


def _probabilities(scores: Array, task: dict[str, Any]) -> Array:
    values = scores.astype(np.float32)
    return 1 / (1 + np.exp(-values)) if task.get("score_logits") else values


def _corners(boxes: Array, task: dict[str, Any]) -> Array:
    """Return (N, 4) x1, y1, x2, y2 in pixels with no negative side."""
    a, b, c, d = boxes.astype(np.float32).T
    kinds = {
        "xyxy": (a, b, c, d),
        "yxyx": (b, a, d, c),
        "cxcywh": (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
    }
    corners = np.stack(kinds[task.get("box_format", "xyxy")], axis=1)
    if task.get("box_scale") == "relative":
        height, width = task["image_size"]
        corners *= np.array([width, height, width, height], np.float32)
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
