"""What a network is likely for, by the shapes of its inputs and outputs alone; every guess says why."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from edgekit.inspection.network import Network, Tensor, elements

_STRIDES = (8, 16, 32)  # of the three heads of YOLO
_ANCHORS = 3  # per place, in the YOLOs that have anchors, and with them an objectness
_FINAL = 6
_FEW = 1000  # detections that a network suppressed itself are not more
_SOFTMAX = re.compile(r"softmax", re.IGNORECASE)


@dataclass(frozen=True)
class Guess:
    """``kind`` and ``settings`` are for the recipe's task table; ``why`` and ``check`` for the user to read."""

    kind: str
    settings: dict[str, str | bool | float] = field(default_factory=dict)
    classes: int | None = None
    why: str = ""
    check: tuple[str, ...] = ()


def guess(network: Network) -> Guess:
    """Return the likeliest task; ``generic``, which fits any network, where nothing else does."""
    for rule in _RULES:
        found = rule(network)
        if found is not None:
            return found
    shapes = ", ".join(f"{output.name} {output.shape_text}" for output in network.outputs)
    return Guess("generic", why=f"outputs {shapes} are of no family that edgekit decodes: agreement is measured")


def _lists(network: Network) -> Guess | None:
    """TF Object Detection's postprocessing: boxes (1, N, 4), classes (1, N), scores (1, N), a count (1,)."""
    boxes = [o for o in network.outputs if _rank(o) == 3 and _last(o) == 4]
    flat = [o for o in network.outputs if _rank(o) == 2 and boxes and _size(o, 1) == _size(boxes[0], 1)]
    count = [o for o in network.outputs if elements(o.shape) == 1]
    if len(boxes) != 1 or len(flat) != 2 or len(network.outputs) != len(flat) + 1 + len(count):
        return None
    named = {key: next((o for o in flat if key in o.name.lower()), None) for key in ("score", "class")}
    classes = named["class"] or next(o for o in flat if o is not named["score"])
    scores = named["score"] or next(o for o in flat if o is not classes)
    return Guess(
        "detection",
        {
            "decoder": "lists",
            "boxes_output": boxes[0].name,
            "scores_output": scores.name,
            "classes_output": classes.name,
            "box_format": "yxyx",
            "box_scale": "relative",
        },
        why=f"boxes {boxes[0].shape_text} with lists of scores and classes: detections that are suppressed already, "
        "as TF Object Detection puts them out",
        check=(
            "which list holds scores and which classes" if not all(named.values()) else "the numbers of the classes",
        ),
    )


def _heatmap(network: Network) -> Guess | None:
    """CenterNet: a map of class scores, beside it two numbers a place for the size and two for the offset."""
    maps = [output for output in network.outputs if _rank(output) == 4]
    if not 2 <= len(maps) <= 3 or len(maps) != len(network.outputs):
        return None
    places = {output.shape[1:3] for output in maps if output.shape}
    pairs = [output for output in maps if _last(output) == 2]
    heat = [output for output in maps if _last(output) != 2]
    if len(maps) - len(pairs) != 1:
        heat = [o for o in maps if re.search(r"heat|hm|score|center|centre", o.name, re.IGNORECASE)][:1]
        pairs = [output for output in maps if output not in heat]
    if len(places) != 1 or len(heat) != 1 or not pairs or any(_last(pair) != 2 for pair in pairs):
        return None
    size = next((o for o in pairs if re.search(r"size|wh|dim", o.name, re.IGNORECASE)), pairs[0])
    offset = next((o for o in pairs if o is not size), None)
    settings: dict[str, str | bool | float] = {
        "decoder": "heatmap",
        "scores_output": heat[0].name,
        "boxes_output": size.name,
        "score_logits": not _ends_in(network, heat[0], "sigmoid"),
    }
    if offset is not None:
        settings["offsets_output"] = offset.name
    return Guess(
        "detection",
        settings,
        _last(heat[0]),
        f"{heat[0].name} {heat[0].shape_text} beside maps of two numbers a place: centres, sizes"
        + (" and offsets" if offset else ""),
        (
            "whether sizes are in pixels of the image or in places of the map (size_unit)",
            "score_logits: whether the map still needs its sigmoid",
        ),
    )


def _boxes_and_scores(network: Network) -> Guess | None:
    boxes = [output for output in network.outputs if _rank(output) == 3 and _last(output) == 4]
    for box in boxes:
        for score in network.outputs:
            if score is not box and _rank(score) == 3 and _size(score, 1) == _size(box, 1):
                settings: dict[str, str | bool | float] = {
                    "decoder": "boxes_scores",
                    "boxes_output": box.name,
                    "scores_output": score.name,
                }
                return Guess(
                    "detection",
                    settings,
                    _last(score),
                    f"{box.name} {box.shape_text} are boxes, {score.name} {score.shape_text} a score per class",
                    (
                        'box_format: corners in pixels are assumed; box_scale = "relative" where they run from 0 to 1',
                        "score_logits = true where the scores still need their sigmoid",
                        "an SSD whose boxes are still offsets from anchors needs them decoded in the network",
                    ),
                )
    return None


def _one_table(network: Network) -> Guess | None:
    """One output of rows: (1, N, 6) suppressed already, else YOLO either way up."""
    tables = [output for output in network.outputs if _rank(output) == 3]
    if len(tables) != 1 or len(network.outputs) != 1 or not tables[0].shape or not _takes_images(network):
        return None
    table, (_, first, last) = tables[0], tables[0].shape
    if last == _FINAL and (first is None or first <= _FEW):
        return Guess(
            "detection",
            {"decoder": "final", "detections_output": table.name},
            None,
            f"{table.name} {table.shape_text} are few rows of box, score and class: the network suppresses itself",
            ("box_format, and box_scale where boxes run from 0 to 1",),
        )
    if first is None or last is None or min(first, last) < 5 or max(first, last) < 2 * min(first, last):
        return None
    rows, width = max(first, last), min(first, last)
    places = _places(network)
    objectness = bool(places) and rows == _ANCHORS * places
    settings: dict[str, str | bool | float] = {
        "decoder": "rows", "detections_output": table.name, "box_format": "cxcywh"
    }  # fmt: skip
    if objectness:
        settings["objectness"] = True
    known = " = 3 anchors for each place" if objectness else " = the places of YOLO's heads" if rows == places else ""
    return Guess(
        "detection",
        settings,
        width - 5 if objectness else width - 4,
        f"{table.name} {table.shape_text}: {rows} rows{known}, each a box and its scores, as YOLO puts out",
        (
            "objectness: a fifth number of each row that multiplies the scores",
            "the number of classes follows from it",
        ),
    )


def _classes(network: Network) -> Guess | None:
    found = [output for output in network.outputs if _flat_size(output)]
    if len(network.outputs) != 1 or not found:
        return None
    count = _flat_size(found[0])
    soft = _ends_in(network, found[0], "softmax")
    ending = "that a softmax ends" if soft else "without a softmax at the end: logits, or one sigmoid each"
    checks = () if soft else ("a network that answers several questions at once, or regresses, is generic",)
    why = f"{found[0].name} {found[0].shape_text}: {count} scores {ending}"
    return Guess("classification", {}, count, why, checks)


def _flat_size(output: Tensor) -> int:
    """Return the values per sample of an output that holds nothing but one list; 0 for any other."""
    shape = output.shape
    count = elements(shape)
    if not shape or count is None or count < 2 or len(shape) not in (2, 4):
        return 0
    return count if sum(size not in (1, None) for size in shape[1:]) == 1 else 0


def _takes_images(network: Network) -> bool:
    return any(_rank(entry) == 4 for entry in network.inputs)


def _places(network: Network) -> int:
    """Return the places of heads at strides 8, 16 and 32, which is a YOLO's number of rows; 0 where sizes are open."""
    for entry in network.inputs:
        if _rank(entry) == 4 and entry.shape:
            height, width = entry.shape[2:] if entry.layout == "NCHW" else entry.shape[1:3]
            if height and width:
                return sum((height // stride) * (width // stride) for stride in _STRIDES)
    return 0


def _ends_in(network: Network, output: Tensor, kind: str) -> bool:
    """Tell whether the last op (or the last layer's activation, where the reader noted it) is of this kind."""
    ends = {"softmax": _SOFTMAX, "sigmoid": re.compile(r"sigmoid|logistic", re.IGNORECASE)}[kind]
    made = [op for op in network.ops if output.name in op.outputs or op.name == output.name]
    last = made[-1:] or (list(network.ops[-1:]) if len(network.outputs) == 1 else [])
    while last:
        if ends.search(f"{last[0].kind} {last[0].activation}"):
            return True
        if last[0].kind.upper() not in ("RESHAPE", "SQUEEZE", "FLATTEN", "TRANSPOSE", "IDENTITY", "DEQUANTIZE"):
            return False
        last = [op for op in network.ops if set(op.outputs) & set(last[0].inputs)][-1:]
    return False


def _rank(tensor: Tensor) -> int:
    return -1 if tensor.shape is None else len(tensor.shape)


def _last(tensor: Tensor) -> int | None:
    return tensor.shape[-1] if tensor.shape else None


def _size(tensor: Tensor, axis: int) -> int | None:
    return tensor.shape[axis] if tensor.shape else None


_RULES: tuple[Callable[[Network], Guess | None], ...] = (_lists, _boxes_and_scores, _heatmap, _one_table, _classes)
