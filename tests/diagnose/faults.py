"""Small networks with one known fault each: what int8 breaks, and a healthy one.

Each builder returns a ``Fault``: the float file, samples to calibrate with, samples to evaluate with, and what
must be done while quantizing for the fault to be there. ``quantize`` makes the artifact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from small_networks import Network

from edgekit.convert import onnx_quantized, tflite_quantized
from edgekit.quantize.calibrate import ranges
from edgekit.quantize.decide import decide
from edgekit.quantize.plan import Plan, Ranges
from edgekit.runtimes import open_model
from edgekit.tasks import generic

Array = npt.NDArray[Any]
Sample = dict[str, Array]
SIZE = (16, 16, 3)
WEIGHTS = 4  # seed of the networks
BODY = 24  # channels of their widest layer, where most weights are


@dataclass(frozen=True)
class Fault:
    """``cause`` is the name diagnose must give first, empty for a healthy model.

    ``source``: the file to quantize, where it is another than ``float_file``; ``int8``: ops to quantize against
    edgekit's own rules; ``change_ranges``: what goes wrong between calibration and the file.
    """

    cause: str
    format: str
    float_file: Path
    calibration: list[Sample]
    evaluation: list[Sample]
    source: Path | None = None
    int8: frozenset[str] = frozenset()
    change_ranges: Callable[[Ranges], Ranges] = field(default=dict)


def plan_of(fault: Fault) -> Plan:
    """Make the plan the way edgekit does, then force what the fault needs."""
    source = fault.source or fault.float_file
    found = ranges(source, fault.format, fault.calibration)
    plan = decide(source, fault.format, "int8", ranges=found, samples=len(fault.calibration))
    forced = tuple(replace(d, precision="int8", reason="") if d.op in fault.int8 else d for d in plan.decisions)
    return replace(plan, decisions=forced, ranges=fault.change_ranges(found))


def quantize(fault: Fault, folder: Path) -> Path:
    """Write the int8 artifact."""
    source = (fault.source or fault.float_file).read_bytes()
    emit = {"tflite": tflite_quantized.emit, "onnx": onnx_quantized.emit}[fault.format]
    path = folder / f"int8.{fault.format}"
    path.write_bytes(emit(source, plan_of(fault)))
    return path


def agreement(fault: Fault, file: Path) -> float:
    """Return how far ``file`` gives the float model's answers on the fault's evaluation samples, 0 to 1."""
    sides = []
    for path in (fault.float_file, file):
        session = open_model(path, fault.format)
        names = [spec["name"] for spec in session.outputs]
        inputs = [[sample[spec["name"]] for spec in session.inputs] for sample in fault.evaluation]
        sides.append([dict(zip(names, session.run(arrays), strict=True)) for arrays in inputs])
    return generic.agreement(*sides)


def healthy(format: str, folder: Path) -> Fault:
    """Return a detector whose int8 form is within a few percent of the float one."""
    return fault_of("", format, folder, detector())


def uneven_channels(format: str, folder: Path) -> Fault:
    """Rescale the channels in front of the depthwise convolution; ReLU lets the function stay the same."""
    return fault_of("uneven-channels", format, folder, uneven_channels_network())


def uneven_channels_network() -> Network:
    network = detector()
    factors = np.geomspace(1 / 64, 64, 16).astype(np.float32)
    first, second = network.nodes[:2]
    weights, bias = first.weights
    network.nodes[0] = replace(first, weights=(weights * factors[:, None, None, None], bias * factors))
    kernel, offset = second.weights
    network.nodes[1] = replace(second, weights=(kernel / factors, offset))
    return network


def outlier_channel(format: str, folder: Path) -> Fault:
    """Make one channel 250 times as large as the others, and the reader of it smaller by as much."""
    network = detector()
    factors = np.ones(16, np.float32)
    factors[5] = 250.0
    first, second = network.nodes[:2]
    weights, bias = first.weights
    network.nodes[0] = replace(first, weights=(weights * factors[:, None, None, None], bias * factors))
    kernel, offset = second.weights
    network.nodes[1] = replace(second, weights=(kernel / factors, offset))
    return fault_of("outlier-channel", format, folder, network)


def mixed_outputs(format: str, folder: Path) -> Fault:
    """Concatenate boxes in pixels with scores in 0..1, and quantize that too."""
    network = detector(joined=True)
    return fault_of("mixed-outputs", format, folder, network, int8=frozenset({"pixels", "scores", "detections"}))


def wide_hard_swish(format: str, folder: Path, top: float = 2.0) -> Fault:
    """Feed hard-swish from -120 up, with everything that passes it between -3 and ``top``, and quantize it op by op."""
    random = np.random.default_rng(WEIGHTS)
    network = Network(SIZE)
    x = network.conv("image", _weights(random, 16, 3, 3, 3), _bias(random, 16), "stem")
    downward = -12.0 * np.abs(_weights(random, 16, 3, 3, 16))
    linear = network.conv(x, downward, np.full(16, 5.0, np.float32), "wide", relu=False)
    found = ranges(_written(network, linear, format, folder), format, _calibration(format))[linear][1]
    network.nodes[-1] = replace(network.nodes[-1], weights=(downward, np.full(16, 5.0 + top - found, np.float32)))
    x = network.unary("hard_swish", linear, "swish")
    x = network.conv(x, 10 * _weights(random, BODY, 3, 3, 16), _bias(random, BODY), "body")
    _heads(random, network, x, joined=False)
    inner = {"swish", "swish/shifted", "swish/clipped", "swish/product"}
    names = frozenset(inner if format == "onnx" else {"swish"})
    fault = fault_of("hard-swish", format, folder, network, int8=names)
    return replace(fault, evaluation=fault.calibration)  # the tails are long: other images would leave the ranges


def few_calibration_samples(format: str, folder: Path) -> Fault:
    """Calibrate on four plain images; one in three of the others holds the pattern that excites the network."""
    network = detector(smooth=True)
    fault = fault_of("few-calibration-samples", format, folder, network)
    busy = [_sample(format, image) for image in (*_noise_images(6, seed=22), *_striped_images(6, seed=23))]
    return replace(fault, calibration=plain(format, 4), evaluation=busy)


def plain(format: str, count: int) -> list[Sample]:
    """Return samples that excite the network of ``few_calibration_samples`` little."""
    return [_sample(format, image) for image in _noise_images(count, seed=21)]


def wrong_normalization(format: str, folder: Path) -> Fault:
    """Calibrate on pixels in 0..1 for a network that runs on -1..1 times two."""
    fault = fault_of("calibration-unlike-data", format, folder, detector())
    shifted = [{name: array * 4 - 2 for name, array in sample.items()} for sample in fault.evaluation]
    return replace(fault, evaluation=shifted)


def swapped_layout(format: str, folder: Path) -> Fault:
    """Quantize a file whose first layer takes the colours in reverse order."""
    network = detector()
    fault = fault_of("swapped-layout", format, folder, network)
    first = network.nodes[0]
    network.nodes[0] = replace(first, weights=(first.weights[0][..., ::-1], first.weights[1]))
    return replace(fault, source=network.write(folder / f"reversed.{format}", format))


def float_island(format: str, folder: Path) -> Fault:
    """Put an ELU, which has no int8 kernel, between the convolutions."""
    random = np.random.default_rng(WEIGHTS)
    network = Network(SIZE)
    x = network.conv("image", _weights(random, 16, 3, 3, 3), _bias(random, 16), "stem")
    x = network.conv(x, _weights(random, 16, 3, 3, 16), _bias(random, 16), "before", relu=False)
    x = network.unary("elu", x, "island")
    x = network.conv(x, _weights(random, BODY, 3, 3, 16), _bias(random, BODY), "body")
    _heads(random, network, x, joined=False)
    return fault_of("float-island", format, folder, network)


def saturated_output(format: str, folder: Path) -> Fault:
    """Give the score logits a range that cuts their peaks off, as a percentile does."""

    def cut(found: Ranges) -> Ranges:
        low, high = found["logits"]
        return {**found, "logits": (low / 3, high / 3)}

    return replace(fault_of("saturated-output", format, folder, detector()), change_ranges=cut)


FAULTS: dict[str, Callable[[str, Path], Fault]] = {
    builder.__name__: builder
    for builder in (
        uneven_channels, outlier_channel, mixed_outputs, wide_hard_swish, few_calibration_samples,
        wrong_normalization, swapped_layout, float_island, saturated_output,
    )
}  # fmt: skip


def detector(*, joined: bool = False, smooth: bool = False) -> Network:
    """Build stem, depthwise, pointwise, body and two heads; ``smooth``: filters that sum what they see."""
    random = np.random.default_rng(WEIGHTS)
    network = Network(SIZE)
    x = network.conv("image", _weights(random, 16, 3, 3, 3, smooth=smooth), _bias(random, 16), "stem")
    x = network.depthwise(x, random.normal(0.1, 0.3, (3, 3, 16)).astype(np.float32), _bias(random, 16), "depthwise")
    x = network.conv(x, _weights(random, 24, 1, 1, 16), _bias(random, 24), "pointwise")
    x = network.conv(x, _weights(random, BODY, 3, 3, 24), _bias(random, BODY), "body", stride=2)
    _heads(random, network, x, joined=joined)
    return network


def _heads(random: np.random.Generator, network: Network, x: str, *, joined: bool) -> None:
    boxes = network.conv(x, _weights(random, 4, 1, 1, BODY), _bias(random, 4), "boxes", relu=False)
    logits = network.conv(x, _weights(random, 3, 1, 1, BODY), _bias(random, 3) - 1, "logits", relu=False)
    scores = network.unary("sigmoid", logits, "scores")
    if joined:
        network.outputs = [network.concat([network.scale(boxes, 128.0, "pixels"), scores], "detections")]
    else:
        network.outputs = [boxes, logits]
        network.nodes.pop()


def fault_of(cause: str, format: str, folder: Path, network: Network, **options: Any) -> Fault:
    path = network.write(folder / f"float.{format}", format)
    evaluation = [_sample(format, image) for image in _images(12, seed=12)]
    return Fault(cause, format, path, _calibration(format), evaluation, **options)


def _calibration(format: str) -> list[Sample]:
    return [_sample(format, image) for image in _images(64, seed=11)]


def _written(network: Network, output: str, format: str, folder: Path) -> Path:
    """Write what there is so far, up to one tensor."""
    network.outputs = [output]
    return network.write(folder / f"unfinished.{format}", format)


def _images(count: int, seed: int) -> list[Array]:
    """Return (H, W, 3) images in 0..1: a few coloured rectangles on a noisy ground."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        image = random.uniform(0, 0.4, SIZE)
        for _ in range(3):
            y, x = random.integers(0, 10, 2)
            image[y : y + 7, x : x + 7] = random.uniform(0, 1, 3)
        images.append((0.9 * image + 0.1 * random.uniform(0, 1, SIZE)).astype(np.float32))
        images[-1][0, 0], images[-1][0, 1] = 0.0, 1.0
    return images


def _noise_images(count: int, seed: int) -> list[Array]:
    """Return images without any structure, over the same 0..1."""
    random = np.random.default_rng(seed)
    return [random.uniform(0, 1, SIZE).astype(np.float32) for _ in range(count)]


def _striped_images(count: int, seed: int) -> list[Array]:
    """Return images of stripes, which filters answer to as they never do to noise."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        period, phase = random.uniform(3, 7), random.uniform(0, np.pi, 3)
        wave = np.sin(2 * np.pi * np.arange(SIZE[1])[:, None] / period + phase) > 0
        images.append(np.broadcast_to(wave.astype(np.float32), SIZE).copy())
    return images


def _sample(format: str, image: Array) -> Sample:
    return {"image": image[np.newaxis] if format == "tflite" else image.transpose(2, 0, 1)[np.newaxis].copy()}


def _weights(random: np.random.Generator, *shape: int, smooth: bool = False) -> Array:
    """Return OHWI weights that keep the size of their input's values."""
    values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    if smooth:
        values = values - values.mean(axis=(1, 2, 3), keepdims=True)
    return values.astype(np.float32)


def _bias(random: np.random.Generator, count: int) -> Array:
    return random.normal(0, 0.05, count).astype(np.float32)
