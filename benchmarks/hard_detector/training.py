"""Train the hard detector on the sample's scenes, with what makes real mobile detectors hard to quantize."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.hard_detector.network import BLOCKS, build_detector
from edgekit import keras_io
from sample_models.digits_detector import adapter
from sample_models.digits_detector.scenes import Scene

BATCH_SIZE = 32
PEAK_LEARNING_RATE = 3e-3
WARMUP_STEPS = 150
EXCITE_L1 = 3e-5  # on the kernels of squeeze-excite units: those nobody needs end at nothing, their biases do not
WIDEST_RATIO, OCTAVES_DOWN = 64.0, 4  # of two channels after the rescaling; each goes down 0 to 3 octaves
STEM_OCTAVES, DEPTHWISE_OCTAVES = 6.0, 3.0  # log2 of the widest ratio of two channels' initial scales


def train_detector(
    scenes: Sequence[Scene], *, epochs: int, seed: int, after_epoch: Callable[[keras.Model, int], None]
) -> keras.Model:
    """Return the detector trained from scratch with AdamW and a cosine schedule, from the last epoch."""
    keras_io.deterministic(seed)
    model = build_detector()
    make_channels_uneven(model, np.random.default_rng(seed))
    excite = [model.get_layer(name).kernel for name in excite_layers(model)]
    steps_per_epoch = len(scenes) // BATCH_SIZE
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, epochs * steps_per_epoch - WARMUP_STEPS, warmup_target=PEAK_LEARNING_RATE, warmup_steps=WARMUP_STEPS
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4, global_clipnorm=10.0)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def train_step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = adapter.loss(model(tf.cast(images, tf.float32) / 255.0, training=True), labels)
            decay = EXCITE_L1 * tf.add_n([tf.reduce_sum(tf.abs(kernel)) for kernel in excite])
            total = value + decay
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(total, variables), variables)
        return value

    pixels = np.stack([scene.pixels for scene in scenes])
    encoded = [adapter.encode_labels(scene.boxes, scene.classes, pixels.shape[1:]) for scene in scenes]
    targets = {key: np.stack([one[key] for one in encoded]) for key in encoded[0]}
    rng = np.random.default_rng(seed)
    for epoch in range(1, epochs + 1):
        started, total = time.monotonic(), 0.0
        order = rng.permutation(len(scenes))[: steps_per_epoch * BATCH_SIZE]
        for rows in order.reshape(steps_per_epoch, BATCH_SIZE):
            total += float(train_step(pixels[rows], {key: target[rows] for key, target in targets.items()}))
        seconds = time.monotonic() - started
        print(f"epoch {epoch}/{epochs}: loss {total / steps_per_epoch:.4f}, {seconds:.0f} s", flush=True)
        after_epoch(model, epoch)
    return model


def make_channels_uneven(model: keras.Model, rng: np.random.Generator) -> None:
    """Give the channels in front of depthwise convolutions initial scales that differ by powers of two.

    The batch norm after the convolution takes out any such factor, so training has no reason to even them.
    """
    for name in scales_before_depthwise(model):
        norm = model.get_layer(name)
        octaves = STEM_OCTAVES if name == "stem_bn" else DEPTHWISE_OCTAVES
        norm.gamma.assign(np.exp2(rng.uniform(1 - octaves, 1, norm.gamma.shape)).astype(np.float32))


def rescale_channels(model: keras.Model, rng: np.random.Generator) -> None:
    """Widen the channels' ratios between ReLU and a depthwise convolution, without changing what is computed.

    ReLU passes a positive factor through: a batch norm's gamma and beta are divided by a power of two and the
    kernel after it is multiplied by it, channel by channel, which is exact in floating point.
    """
    for index, block in enumerate(BLOCKS):
        if block.activation != "relu" or (name := f"block{index}_expand_bn") not in scales_before_depthwise(model):
            continue
        norm, depthwise = model.get_layer(name), model.get_layer(f"block{index}_depthwise")
        scale = np.abs(norm.gamma.numpy())
        room = np.floor(np.log2(scale * WIDEST_RATIO / scale.max())).clip(0)
        factor = np.exp2(np.minimum(rng.integers(0, OCTAVES_DOWN, scale.shape), room)).astype(np.float32)
        norm.gamma.assign(norm.gamma / factor)
        norm.beta.assign(norm.beta / factor)
        depthwise.kernel.assign(depthwise.kernel * factor[:, np.newaxis])


def scales_before_depthwise(model: keras.Model) -> list[str]:
    """Return the batch norms whose channels a depthwise convolution reads next, one by one."""
    names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return [name for name in names if name == "stem_bn" or name.endswith(("_expand_bn", "_reduce_bn"))]


def excite_layers(model: keras.Model) -> list[str]:
    """Return the convolutions of the squeeze-excite units."""
    return [layer.name for layer in model.layers if "_se_" in layer.name and isinstance(layer, keras.layers.Conv2D)]
