"""What is called ordinary is converted, every layer and op of it; what is not is named with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers, ops
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edgekit import target, worker
from edgekit.convert import float_graph, onnx, tflite
from edgekit.errors import StageError
from edgekit.inspection import look, op_support

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2

IMAGE, SEQUENCE, VECTOR, VOLUME, FRAMES, WORDS = (8, 8, 4), (6, 4), (8,), (4, 4, 4, 2), (3, 4, 4, 2), (5,)
# Layers with their arguments by the shape that they read; those of the first lines need none.
LAYERS: dict[tuple[int, ...], str] = {
    IMAGE: """
        BatchNormalization() LayerNormalization() UnitNormalization() RMSNormalization() ReLU() LeakyReLU() PReLU()
        ELU() Softmax() ActivityRegularization() Identity() Flatten() MaxPooling2D() GlobalAveragePooling2D()
        GlobalMaxPooling2D() ZeroPadding2D() Cropping2D() UpSampling2D()
        Conv2D(4,3) Conv2DTranspose(4,3) DepthwiseConv2D(3) SeparableConv2D(4,3) Rescaling(2.0,0.5) Dropout(.1)
        SpatialDropout2D(.1) GaussianDropout(.1) GaussianNoise(.1) AlphaDropout(.1) AveragePooling2D(2)
        GroupNormalization(2) Normalization(mean=[1.,2,3,4],variance=[1.,2,3,4]) Reshape((16,16)) Permute((3,1,2))
        Resizing(4,4) CenterCrop(4,4)
        """,
    SEQUENCE: """
        MaxPooling1D() GlobalAveragePooling1D() GlobalMaxPooling1D() ZeroPadding1D() Cropping1D() UpSampling1D()
        Masking() SpatialDropout1D(.1) AveragePooling1D(2) Conv1D(4,3) Conv1DTranspose(4,3) DepthwiseConv1D(3)
        SeparableConv1D(4,3) EinsumDense("abc,cd->abd",output_shape=(None,5)) LSTM(3) GRU(3) SimpleRNN(3)
        Bidirectional(layers.LSTM(3)) TimeDistributed(layers.Dense(3))
        """,
    VECTOR: "Dense(4) RepeatVector(3)",
    VOLUME: "Conv3D(2,2)",
    FRAMES: "ConvLSTM2D(2,2)",
    WORDS: "Embedding(10,4)",
}
MERGED = "Add Subtract Multiply Average Maximum Minimum Concatenate"
CALLS: dict[tuple[int, ...], tuple[str, ...]] = {
    SEQUENCE: (
        "layers.MultiHeadAttention(2,2)(x,x)", "layers.Attention()([x,x])", "layers.AdditiveAttention()([x,x])",
        "layers.Dot(2)([x,x])", "ops.matmul(x,ops.transpose(x,(0,2,1)))",
    ),
    IMAGE: (
        "ops.absolute(x)", "ops.clip(x,0,1)", "ops.divide(x,x)", "ops.exp(x)", "ops.expand_dims(x,1)", "x[:,1:3,:,2]",
        "ops.log(x)", "ops.max(x,axis=1)", "ops.mean(x,axis=1)", "ops.min(x,axis=1)", "-x", "ops.power(x,2.0)",
        "ops.relu(x)", "ops.relu6(x)", "ops.sigmoid(x)", "ops.silu(x)", "ops.split(x,2,axis=-1)", "ops.sqrt(x)",
        "ops.rsqrt(x)", "ops.square(x)", "ops.squeeze(ops.mean(x,axis=1,keepdims=True),1)", "ops.stack([x,x],1)",
        "ops.sum(x,axis=1)", "ops.tanh(x)", "ops.transpose(x,(0,2,1,3))", "x/x",
        "ops.pad(x,((0,0),(1,1),(0,0),(0,0)))", "ops.hard_sigmoid(x)", "ops.hard_silu(x)", "ops.gelu(x)",
        "ops.softplus(x)", "ops.log_softmax(x)", "ops.softmax(x)", "ops.sin(x)", "ops.cos(x)", "ops.floor(x)",
        "ops.round(x)", "ops.sign(x)", "ops.top_k(x,2)[0]", "ops.where(x>0,x,0*x)",
        "ops.einsum('bhwc,bhwc->bhw',x,x)", "ops.cumsum(x,axis=1)", "ops.take(x,[0,1],axis=1)", "ops.flip(x,axis=1)",
        "ops.roll(x,1,axis=1)", "ops.sort(x,axis=-1)", "ops.repeat(x,2,axis=1)", "ops.tile(x,(1,2,1,1))",
        "ops.logsumexp(x,axis=-1)", "ops.norm(x,axis=-1)", "ops.normalize(x,axis=-1)", "ops.var(x,axis=1)",
        "ops.std(x,axis=1)", "ops.prod(x,axis=1)", "ops.arctan2(x,x)", "ops.concatenate([x,x],-1)",
        "ops.maximum(x,0.5)", "ops.minimum(x,0.5)", "x+1.0", "x-1.0", "x*2.0", "ops.reshape(x,(-1,64,4))",
        "ops.swapaxes(x,1,2)", "ops.moveaxis(x,1,2)", "ops.cast(x>0,'float32')", "ops.image.extract_patches(x,2)",
        "ops.image.resize(x,(4,4))", "ops.dot_product_attention(x,x,x)",
    ),
}  # fmt: skip


class OlderOps(keras.layers.Layer):  # type: ignore[misc]
    """What Keras 3 no longer writes, and SavedModels hold."""

    def call(self, x: Any) -> Any:
        ones = tf.ones(4)
        normal = tf.raw_ops.FusedBatchNormV3(x=x, scale=ones, offset=ones, mean=ones, variance=ones, is_training=False)
        return tf.raw_ops.Add(x=tf.raw_ops.AddN(inputs=[normal.y, x, x]), y=x)


def everything() -> keras.Model:
    """One network with a branch for every layer, function and activation that is called ordinary."""
    inputs = {
        shape: keras.Input(shape, name=f"in{number}", dtype="int32" if shape == WORDS else "float32")
        for number, shape in enumerate((IMAGE, SEQUENCE, VECTOR, VOLUME, FRAMES, WORDS))
    }
    known = {"layers": layers, "ops": ops, "keras": keras}
    made = [eval(f"layers.{text}", known)(inputs[shape]) for shape, line in LAYERS.items() for text in line.split()]
    image = inputs[IMAGE]
    made += [getattr(layers, name)()([image, layers.ReLU()(image)]) for name in MERGED.split()]
    made += [layers.Activation(name)(image) for name in sorted(op_support.ORDINARY_ACTIVATIONS)]
    for shape, calls in CALLS.items():
        made += [eval(text, known, {"x": inputs[shape]}) for text in calls]
    made.append(OlderOps()(image))
    ends = [end for item in made for end in (item if isinstance(item, list) else [item])]
    return keras.Model(list(inputs.values()), ends)


@pytest.mark.slow
def test_everything_that_is_called_ordinary_becomes_tflite_and_onnx(tmp_path: Path) -> None:
    model = everything()
    kinds = {type(node.operation).__name__ for nodes in model._nodes_by_depth.values() for node in nodes}
    assert op_support.ORDINARY["keras"] <= kinds
    float_graph.export_keras(model, tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    frozen = convert_variables_to_constants_v2(loaded.signatures[float_graph.SIGNATURE])
    assert op_support.ORDINARY["saved_model"] <= {node.type for node in frozen.graph.get_operations()}
    assert tflite.float32(tmp_path / "model")
    assert onnx.float32(tmp_path / "model")


def refused(path: Path, name: str, format: str) -> tuple[str, ...]:
    found = look(path, [target.load(name)], lambda *_: None)
    return next(item.refused for item in found.targets if item.format == format)


def test_what_a_converter_lacks_is_named_with_its_place_before_any_work(tmp_path: Path) -> None:
    image = keras.Input(IMAGE, name="image")
    lost = ops.erf(layers.Conv2D(4, 3, name="body")(image))
    keras.Model(image, layers.Dense(2, name="head")(lost)).save(tmp_path / "model.keras")
    (why,) = refused(tmp_path / "model.keras", "raspberry-pi-4", "tflite")
    assert why.startswith("Erf at 'erf'")
    assert "TFLite has no form of it; gelu with approximate=True" in why
    assert refused(tmp_path / "model.keras", "jetson-orin-nano", "onnx") == ()


def test_a_converter_that_breaks_down_is_a_refusal_and_the_rest_is_still_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = keras.Input(IMAGE, name="image")
    keras.Model(image, ops.erf(image)).save(tmp_path / "model.keras")

    run = worker.run

    def breaks(function: str, *rest: Any, **more: Any) -> Any:
        if function.endswith(":missing"):
            raise StageError("inspection ended with SIGSEGV.", "Report it.")
        return run(function, *rest, **more)

    monkeypatch.setattr(worker, "run", breaks)
    found = look(tmp_path / "model.keras", [target.load("raspberry-pi-4")], lambda *_: None)
    assert found.network.histogram == {"Erf": 1}
    assert found.targets[0].refused == ("inspection ended with SIGSEGV. Report it.",)


def test_what_no_converter_takes_apart_is_refused_for_every_format(tmp_path: Path) -> None:
    class Parted(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((None, 8), tf.float32, name="x")])
        def serve(self, x: Any) -> dict[str, Any]:
            return {"y": tf.linalg.det(tf.reshape(tf.math.igamma(x, x), (-1, 2, 2)))}

    module = Parted()
    tf.saved_model.save(module, str(tmp_path / "model"), signatures={"serving_default": module.serve})
    igamma, determinant = refused(tmp_path / "model", "raspberry-pi-4", "tflite")
    assert igamma.startswith("Igamma at 'Igamma': TFLite")
    assert determinant.startswith("MatrixDeterminant at ")
    (only,) = refused(tmp_path / "model", "jetson-orin-nano", "onnx")
    assert only.startswith("Igamma at 'Igamma': ONNX")
