#!/usr/bin/env python3
"""Run the model of this folder: python3 edgekit_run.py IMAGE_OR_NPY [...], one line of JSON per file.

Needs Python 3.9, NumPy, Pillow for images, and the runtime: ai-edge-litert (or tflite-runtime) for .tflite,
onnxruntime for .onnx. Everything else it needs to know stands in model.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
MOST = 400  # candidates that enter suppression, as where the model was scored
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


class LiteRt:
    """A .tflite file. Its inputs and outputs are called by the names in model.json."""

    def __init__(self, path: Path, about: dict[str, Any], threads: int) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            from tflite_runtime.interpreter import Interpreter
        self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self.interpreter.allocate_tensors()
        signatures = self.interpreter.get_signature_list()
        self.signature = self.interpreter.get_signature_runner(next(iter(signatures))) if signatures else None
        self.about = about

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if self.signature is not None:
            return dict(self.signature(**inputs))
        for detail, tensor in zip(self.interpreter.get_input_details(), self.about["inputs"]):  # noqa: B905 - 3.9
            self.interpreter.set_tensor(detail["index"], inputs[tensor["name"]])
        self.interpreter.invoke()
        details = zip(self.interpreter.get_output_details(), self.about["outputs"])  # noqa: B905 - 3.9
        return {tensor["name"]: self.interpreter.get_tensor(detail["index"]) for detail, tensor in details}


class Ort:
    """An .onnx file, on TensorRT or CUDA where this machine's ONNX Runtime has them."""

    def __init__(self, path: Path, about: dict[str, Any], threads: int) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime 1.31 would write a device ID and report to its maker
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        present = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
        self.session = onnxruntime.InferenceSession(str(path), options, providers=present)
        self.names = [tensor["name"] for tensor in about["outputs"]]

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(self.names, self.session.run(self.names, inputs)))  # noqa: B905 - 3.9


RUNTIMES: dict[str, Any] = {"tflite": LiteRt, "onnx": Ort}


def read(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of one file: an image, a .npy sample, or an .npz with an array per input."""
    tensors, how = about["inputs"], about["preprocess"]
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            samples = {name: stored[name] for name in stored.files}
    elif path.suffix == ".npy":
        samples = {tensors[0]["name"]: np.load(path, allow_pickle=False)}
    else:
        samples = {tensors[0]["name"]: image(path, tensors[0], how)}
    return {tensor["name"]: fitted(samples[tensor["name"]], tensor, how) for tensor in tensors}


def image(path: Path, tensor: dict[str, Any], how: dict[str, Any]) -> Any:
    """Return (H, W, C) pixels 0 to 255, resized to what the model takes."""
    from PIL import Image

    height, width = tensor["shape"][2:4] if tensor["layout"] == "NCHW" else tensor["shape"][1:3]
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("L" if how["color"] == "gray" else "RGB").resize((width, height)))
    channels = tensor["shape"][1] if tensor["layout"] == "NCHW" else tensor["shape"][3]
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    elif channels == 1:
        pixels = pixels.mean(axis=-1, keepdims=True)
    return pixels[..., ::-1] if how["color"] == "bgr" else pixels


def fitted(sample: Any, tensor: dict[str, Any], how: dict[str, Any]) -> Any:
    """Preprocess one sample, x = (pixel - mean) * scale, and give it the input's layout, batch 1 and type."""
    mean, scale = np.array(how["mean"], np.float32), np.array(how["scale"], np.float32)
    array = sample if not mean.any() and (scale == 1).all() else (sample.astype(np.float32) - mean) * scale
    array = array[np.newaxis] if array.ndim < len(tensor["shape"]) else array
    if tensor["layout"] in ("NCHW", "NHWC") and list(array.shape[1:]) != tensor["shape"][1:]:
        array = array.transpose((0, 3, 1, 2) if tensor["layout"] == "NCHW" else (0, 2, 3, 1))
    dtype, quantized = np.dtype(tensor["dtype"]), tensor["quantization"]
    if quantized and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        array = np.clip(np.rint(array / quantized["scale"] + quantized["zero_point"]), limits.min, limits.max)
    return np.ascontiguousarray(array, dtype=dtype)


def dequantized(array: Any, tensor: dict[str, Any]) -> Any:
    """Return an output as floats."""
    quantized = tensor["quantization"]
    if not quantized or array.dtype.kind not in "iu":
        return array
    return (array.astype(np.float32) - quantized["zero_point"]) * quantized["scale"]


def classify(outputs: dict[str, Any], about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the best five classes."""
    scores = max(outputs.values(), key=lambda array: array.size).reshape(-1)
    labels = about["labels"] or [str(number) for number in range(len(scores))]
    best = np.argsort(-scores, kind="stable")[:5]
    return [{"label": labels[number], "score": round(float(scores[number]), 4)} for number in best]


def detect(outputs: dict[str, Any], about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return boxes x1, y1, x2, y2 in pixels of the model's input, best first, after suppression in each class."""
    task, labels = about["task"], about["labels"]
    boxes, scores, classes = candidates(outputs, task, len(labels))
    best = np.argsort(-scores, kind="stable")[: max(MOST, 4 * task["max_detections"])]
    boxes, scores, classes = boxes[best], scores[best], classes[best]
    done = task["decoder"] in ("final", "lists")  # the network suppressed its boxes itself
    kept = list(range(len(best))) if done else suppressed(boxes, classes, task["nms_iou"])
    return [
        {
            "label": labels[int(classes[row])] if labels else str(int(classes[row])),
            "score": round(float(scores[row]), 4),
            "box": [round(float(side), 2) for side in boxes[row]],
        }
        for row in kept[: task["max_detections"]]
    ]


def suppressed(boxes: Any, classes: Any, limit: float) -> list[int]:
    """Return the rows, which come best first, that overlap no better one of their class by more than ``limit`` IoU."""
    kept: list[int] = []
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    for row in range(len(boxes)):
        rivals = [other for other in kept if classes[other] == classes[row]]
        low, high = np.maximum(boxes[rivals, :2], boxes[row, :2]), np.minimum(boxes[rivals, 2:], boxes[row, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        if not (shared > limit * (areas[rivals] + areas[row] - shared)).any():
            kept.append(row)
    return kept


def candidates(outputs: dict[str, Any], task: dict[str, Any], named: int) -> tuple[Any, Any, Any]:
    """Return boxes (n, 4), scores (n,) and classes (n,) above the threshold, whatever way the network puts them."""
    if task["decoder"] == "heatmap":
        boxes, scores = peaks(outputs, task)
        row, category = np.nonzero(scores > task["score_threshold"])
        return boxes[row], scores[row, category], category
    if task["decoder"] == "lists":
        names = ("boxes_output", "scores_output", "classes_output")
        boxes, scores, classes = (outputs[task[name]][0] for name in names)
        scores = probabilities(scores, task)
        above = scores > task["score_threshold"]
        return corners(boxes[above], task), scores[above], np.rint(classes[above]).astype(int)
    if task["decoder"] == "boxes_scores":
        boxes, scores = outputs[task["boxes_output"]][0], probabilities(outputs[task["scores_output"]][0], task)
    else:
        table = outputs[task["detections_output"]][0]
        if task["decoder"] == "final":
            scores = probabilities(table[:, 4], task)
            above = scores > task["score_threshold"]
            return corners(table[above, :4], task), scores[above], np.rint(table[above, 5]).astype(int)
        extra = 4 + bool(task["objectness"])
        if table.shape[1] != extra + named:
            table = table.T
        boxes, scores = table[:, :4], probabilities(table[:, 4:], task)
        if task["objectness"]:
            scores = scores[:, 1:] * scores[:, :1]
    row, category = np.nonzero(scores > task["score_threshold"])
    return corners(boxes, task)[row], scores[row, category], category


def peaks(outputs: dict[str, Any], task: dict[str, Any]) -> tuple[Any, Any]:
    """Return boxes (n, 4) and scores (n, classes) of a map of centres; no score where a neighbour is higher."""
    scores, sizes = outputs[task["scores_output"]], outputs[task["boxes_output"]]
    offsets = outputs[task["offsets_output"]] if task["offsets_output"] else np.full(sizes.shape, 0.5, np.float32)
    if sizes.shape[3] != 2:
        scores, sizes, offsets = (array.transpose(0, 2, 3, 1) for array in (scores, sizes, offsets))
    heat, sizes, offsets = probabilities(scores[0], task), sizes[0], offsets[0]
    rows, columns = heat.shape[:2]
    padded = np.pad(heat, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    around = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    stride = task["stride"]
    centres = np.stack([x + offsets[..., 0], y + offsets[..., 1]], axis=-1) * stride
    half = sizes * (stride if task["size_unit"] == "places" else 1) / 2
    boxes = np.concatenate([centres - half, centres + half], axis=-1).reshape(-1, 4)
    return boxes, np.where(heat >= np.max(around, axis=0), heat, 0).reshape(len(boxes), -1)


def probabilities(scores: Any, task: dict[str, Any]) -> Any:
    return 1 / (1 + np.exp(-scores)) if task["score_logits"] else scores


def corners(boxes: Any, task: dict[str, Any]) -> Any:
    a, b, c, d = boxes.T
    kinds = {
        "xyxy": (a, b, c, d),
        "yxyx": (b, a, d, c),
        "cxcywh": (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
    }
    height, width = task["image_size"] if task["box_scale"] == "relative" else (1, 1)
    return np.stack(kinds[task["box_format"]], axis=1) * np.array([width, height, width, height], np.float32)


def raw(outputs: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in outputs.items()}


ANSWERS: dict[str, Any] = {"classification": classify, "detection": detect, "generic": raw, "custom": raw}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="images, .npy samples, or .npz with an array per input")
    parser.add_argument("--about", type=Path, default=HERE / "model.json", help="describes the model file beside it")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    about = json.loads(given.about.read_text(encoding="utf-8"))
    model = RUNTIMES[about["format"]](given.about.with_name(about["file"]), about, given.threads)
    for path in given.files:
        inputs = read(path, about)
        start = time.perf_counter()
        outputs = model(inputs)
        took_ms = (time.perf_counter() - start) * 1000
        floats = {tensor["name"]: dequantized(outputs[tensor["name"]], tensor) for tensor in about["outputs"]}
        answer = ANSWERS[about["task"]["kind"]](floats, about)
        print(json.dumps({"file": str(path), "ms": round(took_ms, 3), "result": answer}))


if __name__ == "__main__":
    main()
