"""Write a model as the one float hand-off every converter reads: a batch-1, inference-mode SavedModel.

Every export goes through here because the direct routes give silently broken files: unfrozen variables,
captured constants that become inputs, batch-norm left in training mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit.convert.rewrites import rewritten
from edgekit.errors import UnsupportedError
from edgekit.source.saved_model import DEFAULT_SIGNATURE, choose

SIGNATURE = DEFAULT_SIGNATURE
Arrays = dict[str, npt.NDArray[Any]]


def export_keras(model: keras.Model, out: Path) -> None:
    """Write the model to ``out`` with static batch 1 and its own input and output names.

    Raises UnsupportedError for models without a fixed graph, for input dimensions without a size and for
    recurrent layers that cannot be unrolled.
    """
    model = rewritten(model)
    names = input_names(model)
    specs = [
        tf.TensorSpec((1, *static_shape(name, tensor.shape[1:])), tensor.dtype, name=name)
        for name, tensor in zip(names, model.inputs, strict=True)
    ]

    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return call(model, dict(zip(names, tensors, strict=True)))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(SIGNATURE, serve, input_signature=specs)
    archive.write_out(str(out), verbose=False)


def resign(
    saved_model: Path, out: Path, wanted_signature: str = "", shapes: Mapping[str, Sequence[int]] | None = None
) -> None:
    """Write one signature of a user's SavedModel again with batch 1, keeping the names of its tensors.

    ``shapes``: of inputs whose sizes are open. Raises UnsupportedError without a usable signature, or for a dynamic
    dimension besides the batch.
    """
    loaded = tf.saved_model.load(str(saved_model))
    signature = serving_signature(loaded.signatures, saved_model, wanted_signature)
    given = shapes or {}
    wanted: dict[str, tf.TensorSpec] = signature.structured_input_signature[1]
    specs = []
    for name, spec in sorted(wanted.items()):
        if name in given:
            specs.append(tf.TensorSpec(tuple(given[name]), spec.dtype, name=name))
            continue
        if spec.shape.rank is None:
            raise UnsupportedError(
                f"input '{name}' of {saved_model.name} has no known rank",
                f"Say it: --shape {name}=1,SIZE,...",
            )
        batched = (1, *static_shape(name, spec.shape[1:])) if spec.shape.rank else ()
        specs.append(tf.TensorSpec(batched, spec.dtype, name=name))
    names = [spec.name for spec in specs]

    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs: dict[str, tf.Tensor] = signature(**dict(zip(names, tensors, strict=True)))
        return outputs

    module = tf.Module()
    module.original = loaded  # keeps the captured variables alive and inside the new file
    module.serve = tf.function(serve, input_signature=specs, autograph=False)
    tf.saved_model.save(module, str(out), signatures={SIGNATURE: module.serve})


def reference(model: keras.Model, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Compute what every artifact is compared with: ``model(x, training=False)``, one sample at a time.

    ``inputs``: ``(N, ...)`` per input name. Returns ``(N, ...)`` per output name.
    """
    count = len(next(iter(inputs.values())))
    parts = [call(model, {name: tf.constant(array[i : i + 1]) for name, array in inputs.items()}) for i in range(count)]
    return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}


def saved_model_reference(saved_model: Path, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Compute the outputs of a SavedModel's signature, one sample at a time; shapes as in ``reference``."""
    loaded = tf.saved_model.load(str(saved_model))
    signature = serving_signature(loaded.signatures, saved_model)
    count = len(next(iter(inputs.values())))
    parts = [signature(**{name: tf.constant(array[i : i + 1]) for name, array in inputs.items()}) for i in range(count)]
    return {name: np.concatenate([part[name].numpy() for part in parts]) for name in sorted(parts[0])}


def signature_inputs(saved_model: Path) -> list[tuple[str, tf.TensorSpec]]:
    """Return the inputs of a SavedModel's serving signature, sorted by name."""
    signature = serving_signature(tf.saved_model.load(str(saved_model)).signatures, saved_model)
    wanted: dict[str, tf.TensorSpec] = signature.structured_input_signature[1]
    return sorted(wanted.items())


def warnings_of(model: keras.Model) -> list[str]:
    """Name what in this model is known to convert wrongly elsewhere, or to change under conversion here."""
    layers = list(model._flatten_layers(include_self=False))
    found = []
    traps = [layer.name for layer in layers if type(layer).__name__ in ("Resizing", "CenterCrop")]
    norms = [layer.name for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    if traps and norms:
        found.append(
            f"{', '.join(traps)} switch the batch-norm layers after them to training mode when the model is "
            "called without training=False; edgekit always passes it, other tools may not"
        )
    loops = [
        layer.name for layer in layers if isinstance(layer, keras.layers.RNN) and not getattr(layer, "unroll", False)
    ]
    if loops:
        found.append(f"{', '.join(loops)} are loops; they are unrolled for conversion (larger file, same numbers)")
    return found


def input_names(model: keras.Model) -> list[str]:
    """Return the input names in flat order."""
    if not getattr(model, "inputs", None):
        raise UnsupportedError(
            f"model '{model.name}' has no fixed graph of layers (a subclassed model)",
            "Rebuild it with the functional API, or export it as a SavedModel with an input_signature.",
        )
    return [str(tensor.name) for tensor in model.inputs]


def output_names(model: keras.Model) -> list[str]:
    """Return the output names in flat order: the keys of a dict, else the names of the last layers."""
    structure = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    if isinstance(structure, dict):
        return ["_".join(map(str, path)) for path, _ in keras.tree.flatten_with_path(structure)]
    names: list[str] = []
    for tensor in model.outputs:
        name = str(tensor._keras_history[0].name)
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def call(model: keras.Model, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Run the model in inference mode on inputs by name; returns outputs by name."""
    flat = [inputs[name] for name in input_names(model)]
    # A Sequential out of an .h5 file was never called, and knows no `input`.
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    single = len(flat) == 1 and not isinstance(structure, dict | list | tuple)
    packed = flat[0] if single else keras.tree.pack_sequence_as(structure, flat)
    outputs = keras.tree.flatten(model(packed, training=False))  # Resizing leaks training=True otherwise
    return dict(zip(output_names(model), outputs, strict=True))


def static_shape(name: str, shape: Any) -> tuple[int, ...]:
    """Return the dimensions after the batch as integers; raises UnsupportedError for one without a size."""
    sizes = list(shape)
    if any(size is None for size in sizes):
        shown = ", ".join("?" if size is None else str(size) for size in sizes)
        raise UnsupportedError(
            f"input '{name}' has a dimension without a size: (batch, {shown})",
            f"Small devices need fixed shapes; say at which it is to run: --shape {name}=1,SIZE,...",
        )
    return tuple(int(size) for size in sizes)


def serving_signature(signatures: Mapping[str, Any], path: Path, wanted: str = "") -> Any:
    """Return the signature of this name, else the default or the only one. Raises UnsupportedError for neither."""
    return signatures[choose(sorted(signatures), path, wanted)]
