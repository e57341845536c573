from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import prune_graphs
import pytest
import tensorflow as tf

from edgekit.errors import StageError
from edgekit.prune.keras.functional import weight_array
from edgekit.prune.keras.graph import analyze
from edgekit.prune.keras.importance import IMPORTANCE
from edgekit.prune.keras.signature import as_tensors, predict
from edgekit.prune.keras.surgery import prune
from edgekit.prune.recovery.batches import Lesson
from edgekit.prune.recovery.distillation import Distillation
from edgekit.prune.recovery.training import RecoverySettings, recover
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import select

pytestmark = pytest.mark.slow

QUICK = RecoverySettings(epochs=4, batch=8, learning_rate=3e-3)


def silent(fraction: float, message: str) -> None:
    """Take progress and do nothing."""


def pair(name: str, count: int = 64) -> tuple[keras.Model, keras.Model, dict[str, Any]]:
    """Build a model, its pruned half and samples for both."""
    teacher = prune_graphs.build(name)
    graph = analyze(teacher)
    selection = select(graph, IMPORTANCE["l2"](teacher, graph, {}, 0), Macs(), 0.5)
    return teacher, prune(teacher, graph, selection), prune_graphs.samples(teacher, count)


@pytest.mark.parametrize(
    "name", ["chain", "detector_ops_tail", "flatten_dense", "two_inputs", "sequential", "transformer"]
)
def test_distillation_brings_the_student_closer(name: str) -> None:
    teacher, student, inputs = pair(name)
    taught = predict(teacher, inputs)
    distance = Distillation.fit(taught)
    before = float(distance(as_tensors(predict(student, inputs)), as_tensors(taught)))
    result = recover(student, teacher, Lesson(inputs), None, QUICK, silent)
    after = float(distance(as_tensors(predict(student, inputs)), as_tensors(taught)))
    assert after < before
    assert result.epochs[-1].distil_loss < result.epochs[0].distil_loss
    assert result.epochs[-1].label_loss is None
    assert len(result.epochs) == QUICK.epochs


def test_the_teacher_is_untouched_and_nothing_stays_compiled() -> None:
    teacher, student, inputs = pair("chain")
    before = [weight_array(weight) for weight in teacher.weights]
    recover(student, teacher, Lesson(inputs), None, QUICK, silent)
    for old, weight in zip(before, teacher.weights, strict=True):
        np.testing.assert_array_equal(old, weight_array(weight))
    assert not student.compiled
    assert getattr(student, "optimizer", None) is None


def classes_of(inputs: dict[str, Any]) -> dict[str, Any]:
    """Label images by which colour is strongest: something the random teacher cannot know."""
    return {"class": inputs["image"].mean(axis=(1, 2)).argmax(axis=-1).astype(np.int32)}


def cross_entropy(outputs: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]) -> tf.Tensor:
    return tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels["class"], outputs["classes"]))


def test_labels_teach_what_the_teacher_does_not_know() -> None:
    teacher, student, inputs = pair("flatten_dense")
    labels = classes_of(inputs)
    settings = RecoverySettings(epochs=15, learning_rate=3e-3, distil_weight=0.0, mixed_share=0.0)
    result = recover(student, teacher, Lesson(inputs, labels), cross_entropy, settings, silent)
    first, last = result.epochs[0], result.epochs[-1]
    assert first.label_loss is not None
    assert last.label_loss is not None
    assert last.label_loss < 0.7 * first.label_loss
    assert last.total_loss == last.label_loss


def test_labels_without_a_loss_are_a_mistake() -> None:
    teacher, student, inputs = pair("flatten_dense")
    with pytest.raises(ValueError, match="belong together"):
        recover(student, teacher, Lesson(inputs, classes_of(inputs)), None, QUICK, silent)


def test_a_loss_that_is_not_finite_stops_the_stage() -> None:
    teacher, student, inputs = pair("flatten_dense")

    def broken(outputs: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.math.log(-tf.reduce_sum(outputs["classes"]))

    with pytest.raises(StageError, match="epoch 1, step 1"):
        recover(student, teacher, Lesson(inputs, classes_of(inputs)), broken, QUICK, silent)


def test_progress_ends_at_one() -> None:
    teacher, student, inputs = pair("chain", 16)
    seen: list[float] = []
    recover(student, teacher, Lesson(inputs), None, QUICK, lambda fraction, message: seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_fewer_samples_than_a_batch_still_train() -> None:
    teacher, student, inputs = pair("chain", 3)
    result = recover(student, teacher, Lesson(inputs), None, RecoverySettings(epochs=2, batch=16), silent)
    assert result.samples == 3
    assert np.isfinite(result.epochs[-1].total_loss)


def test_ema_without_mixed_images_trains_too() -> None:
    teacher, student, inputs = pair("chain")
    settings = RecoverySettings(epochs=6, learning_rate=3e-3, ema=True, mixed_share=0.0)
    result = recover(student, teacher, Lesson(inputs), None, settings, silent)
    assert result.epochs[-1].distil_loss < result.epochs[0].distil_loss


RUN_TWICE = """
import hashlib, sys
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
sys.path.insert(0, sys.argv[1])
import test_recovery as recovery
for name in ("transposed_and_1d", "transposed_and_1d", "transformer", "transformer"):
    teacher, student, inputs = recovery.pair(name, 32)
    recovery.recover(student, teacher, recovery.Lesson(inputs), None, recovery.QUICK, recovery.silent)
    print("weights", recovery.fingerprint(student))
"""


def fingerprint(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(weight_array(weight).tobytes())
    return digest.hexdigest()


def test_two_runs_give_the_same_bytes() -> None:
    """Run apart, because op determinism cannot be switched off again. One model drops out, one looks up words."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", RUN_TWICE, str(here)],
        capture_output=True,
        text=True,
        check=True,
        cwd=here.parents[1],
    )
    prints = [line for line in done.stdout.splitlines() if line.startswith("weights")]
    assert len(prints) == 4
    assert prints[0] == prints[1]
    assert prints[2] == prints[3]


def killed_after(epoch: int) -> Any:
    """Return a progress that stops the training once this epoch was done, as a kill would."""

    def tell(fraction: float, message: str) -> None:
        if message.startswith(f"epoch {epoch}:"):
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize("ema", [False, True])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path, ema: bool) -> None:
    settings = RecoverySettings(epochs=4, learning_rate=3e-3, ema=ema)
    teacher, student, inputs = pair("chain", 32)
    lesson, held = Lesson(inputs), Lesson(prune_graphs.samples(teacher, 8))
    straight = recover(student, teacher, lesson, None, settings, silent, held=held)
    wanted = fingerprint(student)

    _, student, _ = pair("chain", 32)
    file = tmp_path / "training.npz"
    with pytest.raises(KeyboardInterrupt):
        recover(student, teacher, lesson, None, settings, killed_after(2), held=held, checkpoint=file)
    _, student, _ = pair("chain", 32)
    seen: list[str] = []
    resumed = recover(
        student, teacher, lesson, None, settings, lambda done, text: seen.append(text), held=held, checkpoint=file
    )
    assert [text[:8] for text in seen if text.startswith("epoch")] == ["epoch 3:", "epoch 4:"]
    assert fingerprint(student) == wanted
    assert resumed.best_epoch == straight.best_epoch
    assert [e.held_loss for e in resumed.epochs] == [e.held_loss for e in straight.epochs]


def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    teacher, student, inputs = pair("chain", 16)
    file = tmp_path / "training.npz"
    settings = RecoverySettings(epochs=1)
    recover(student, teacher, Lesson(inputs), None, settings, silent, checkpoint=file)
    file.write_bytes(file.read_bytes()[:500])
    _, student, _ = pair("chain", 16)
    seen: list[str] = []
    recover(student, teacher, Lesson(inputs), None, settings, lambda done, text: seen.append(text), checkpoint=file)
    assert any(text.startswith("epoch 1:") for text in seen)


def test_the_best_epoch_on_held_samples_is_the_result() -> None:
    """A learning rate that ruins the network in the end: what comes out is the epoch before."""
    teacher, student, inputs = pair("flatten_dense", 64)
    labels = classes_of(inputs)
    held = Lesson(inputs, labels).part(np.arange(48, 64))
    lesson = Lesson(inputs, labels).part(np.arange(48))
    settings = RecoverySettings(epochs=12, learning_rate=0.3, distil_weight=0.0, mixed_share=0.0, patience=3)
    result = recover(student, teacher, lesson, cross_entropy, settings, silent, held=held)
    losses = [epoch.held_loss for epoch in result.epochs]
    assert result.best_epoch == min(range(len(losses)), key=lambda n: (losses[n], -n)) + 1
    found = predict(student, held.inputs)
    assert held.labels is not None
    loss = float(cross_entropy(as_tensors(found), as_tensors(held.labels)))
    assert loss == pytest.approx(losses[result.best_epoch - 1], rel=1e-4)
    assert len(result.epochs) <= result.best_epoch + 3
