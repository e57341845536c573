"""The prune stage: a trained Keras model in, a smaller trained Keras model out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit import keras_io
from edgekit.artifact import TensorSpec
from edgekit.dataset import Dataset, Preprocess, open_dataset
from edgekit.errors import StageError, UnsupportedError
from edgekit.progress import Progress
from edgekit.prune import surgery
from edgekit.prune.cost import COUNTED, Macs
from edgekit.prune.functional import as_functional
from edgekit.prune.graph import analyze
from edgekit.prune.importance import IMPORTANCE
from edgekit.prune.recovery import Loss, RecoveryResult, RecoverySettings, recover
from edgekit.prune.selection import Selection, select
from edgekit.prune.signature import input_names, output_names
from edgekit.tasks.adapter import load_adapter

Arrays = dict[str, npt.NDArray[Any]]

MODEL = "pruned.keras"
_EXACTNESS = 1e-5  # relative: float32 sums in another order
_RANKING_SAMPLES = 192
_EXACTNESS_SAMPLES = 8


def run(
    *,
    out: Path,
    progress: Progress,
    model: Path,
    dataset: dict[str, Any],
    labelled: bool,
    task: dict[str, Any],
    adapter: Path | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Cut channels until ``settings["keep_macs"]`` holds, prove the cut exact, recover; write ``pruned.keras``.

    ``dataset``: what to learn from; with ``labelled`` its truth is used too. Raises UnsupportedError where
    nothing can be cut, StageError where the cut is not exact or recovery fails.
    """
    keras_io.deterministic(settings["seed"])
    progress(0.0, "loading the model")
    original = as_functional(keras_io.load(model))
    specs = _specs(original)
    samples = open_dataset(
        dataset["kind"], dataset["path"], dataset["labels"], Preprocess.from_json(dataset["preprocess"]),
        labelled=labelled, classes=dataset["classes"],
    )  # fmt: skip
    inputs = samples.stacked(specs)

    progress(0.03, "finding channel groups")
    graph = analyze(original)
    few = {name: array[:_RANKING_SAMPLES] for name, array in inputs.items()}
    progress(0.05, f"ranking {graph.unit_count} channel groups")
    ranking = IMPORTANCE[settings["importance"]](original, graph, few, settings["seed"])
    selection = select(
        graph, ranking, COUNTED[settings["cost"]](), settings["keep_macs"], keep_of=Macs(),
        **{name: settings[name] for name in ("round_to", "min_channels", "max_layer_cut", "limits", "protect")},
    )  # fmt: skip
    if selection.macs_after >= selection.macs_before:
        reasons = "; ".join(sorted({item.reason for item in graph.frozen})[:3])
        raise UnsupportedError(
            f"No channel of this model can be cut with these settings. {reasons}".strip(),
            "Lower prune.min_channels or prune.round_to, or set prune.enabled = false.",
        )
    pruned = surgery.prune(original, graph, selection)
    error = surgery.verify_exact(
        original, graph, selection, pruned, {k: v[:_EXACTNESS_SAMPLES] for k, v in few.items()}
    )
    if not error <= _EXACTNESS:
        raise StageError(
            f"The cut network differs by {error:.1e} from the original with those channels zeroed "
            f"(limit {_EXACTNESS:.0e}).",
            "This is a bug in edgekit's surgery for this architecture; set prune.enabled = false meanwhile.",
        )
    recovery, taught = _recover(pruned, original, inputs, samples, labelled, task, adapter, settings, progress)
    keras_io.save(pruned, out / MODEL)
    return {
        **_facts(selection),
        "exactness_error": float(error),
        "frozen": [f"{item.layer}: {item.reason}" for item in graph.frozen],
        "recovery": taught,
        "recovery_epochs": len(recovery.epochs) if recovery else 0,
        "recovery_details": recovery.summary()["epochs"][-1:] if recovery else [],
        "training_samples": len(samples) if recovery else 0,
    }


def _facts(selection: Selection) -> dict[str, Any]:
    return {
        "macs_before": int(selection.macs_before),
        "macs_after": int(selection.macs_after),
        "parameters_before": int(selection.params_before),
        "parameters_after": int(selection.params_after),
        "target_reached": bool(selection.reached),
        "widths": [[list(width.layers), width.before, width.after] for width in selection.widths],
    }


def _recover(
    pruned: Any, original: Any, inputs: Arrays, samples: Dataset, labelled: bool,
    task: dict[str, Any], adapter: Path | None, settings: dict[str, Any], progress: Progress,
) -> tuple[RecoveryResult | None, str]:  # fmt: skip
    if settings["epochs"] == 0:
        return None, "none"
    labels, loss = _teaching(original, inputs, samples, labelled, task, adapter)
    result = recover(
        pruned, original, inputs, labels, loss,
        RecoverySettings(**{name: settings[name] for name in RecoverySettings.__dataclass_fields__}),
        lambda done, text: progress(0.1 + 0.88 * done, text),
    )  # fmt: skip
    return result, "labels + distillation" if labels else "distillation"


def _teaching(
    model: Any, inputs: Arrays, samples: Dataset, labelled: bool, task: dict[str, Any], adapter: Path | None
) -> tuple[Arrays | None, Loss | None]:
    """Return labels and a loss where the recipe has them: the adapter's, or the built-in of classification."""
    if not labelled or samples.truth is None:
        return None, None
    if adapter is not None:
        module = load_adapter(adapter, ("encode_labels", "loss"))
        shape = tuple(next(iter(inputs.values())).shape[1:])
        encoded = [module.encode_labels(truth.boxes, truth.classes, shape) for truth in samples.truth]
        return {name: np.stack([item[name] for item in encoded]) for name in encoded[0]}, module.loss
    if task["kind"] == "classification":
        name = output_names(model)[0]
        return {"class": np.asarray(samples.truth, np.int64)}, _cross_entropy(name)
    return None, None


def _cross_entropy(output: str) -> Loss:
    def loss(outputs: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]) -> tf.Tensor:
        # log of the network's own probabilities; the floor keeps a wrong, certain answer finite
        probabilities = tf.clip_by_value(outputs[output], 1e-7, 1.0)
        chosen = tf.gather(probabilities, labels["class"], axis=-1, batch_dims=1)
        return -tf.reduce_mean(tf.math.log(chosen))

    return loss


def _specs(model: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, (1, *(int(size) for size in tensor.shape[1:])), str(tensor.dtype))
        for name, tensor in zip(input_names(model), model.inputs, strict=True)
    )
