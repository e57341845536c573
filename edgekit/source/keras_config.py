"""Walk a Keras model's configuration and refuse whatever is not a standard Keras object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source.info import Input
from edgekit.source.keras_order import check_order

_MODELS = {"Functional", "Sequential", "Model"}
_LAYER_KEYS = {"layer", "backward_layer", "cell", "cells", "layers"}
_RUNS_FOREIGN_CODE = {"TorchModuleWrapper", "FlaxLayer", "JaxLayer", "TFSMLayer"}

# Keras 2 wrote no module, only a class name: these are the layers of keras.layers (a test compares them).
_NAMES = """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
    AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention
    AugMix AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D
    BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate
    ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
    Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D Convolution1DTranspose Convolution2D
    Convolution2DTranspose Convolution3D Convolution3DTranspose Cropping1D Cropping2D Cropping3D CutMix Dense
    DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten
    GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D
    GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization
    GroupQueryAttention HashedCrossing Hashing Identity InputLayer IntegerLookup LSTM LSTMCell
    LayerNormalization LeakyReLU Masking MaxNumBoundingBoxes MaxPool1D MaxPool2D MaxPool3D MaxPooling1D
    MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization
    PReLU Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration
    RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip
    RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization
    RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector
    Rescaling Reshape Resizing ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D
    SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D
    SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells StringLookup Subtract
    TextVectorization TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D Wrapper
    ZeroPadding1D ZeroPadding2D ZeroPadding3D
"""
STANDARD_LAYERS = frozenset(_NAMES.split())


@dataclass(frozen=True)
class _Object:
    """One serialized object; ``layer`` is the name of the layer it is or belongs to."""

    node: dict[str, Any]
    layer: str
    is_layer: bool

    @property
    def class_name(self) -> str:
        return str(self.node["class_name"])


def check(config: Any, path: Path, own: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Return the class of every layer, in order; ``own``: the classes and functions of the user's custom file.

    Raises UnsupportedError for Lambda, other custom objects and layers that run other code; RecipeError where the
    configuration is not a model's.
    """
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict) or "class_name" not in config:
        raise RecipeError(f"{path} holds no model configuration.", "Save the whole model: model.save('model.keras').")
    layers = []
    foreign: dict[str, str] = {}
    try:
        for item in _objects(config, "", True):
            _refuse_code(item, path)
            name = custom_name(item.node, is_layer=item.is_layer)
            if name and name not in own:
                foreign.setdefault(name, _place(item))
            if item.is_layer and item.class_name not in _MODELS:
                layers.append(item.class_name)
    except RecursionError as error:
        raise RecipeError(f"{path} has a configuration nested too deeply to be a model's.") from error
    if foreign:
        _refuse(foreign, path, own)
    check_order(config, path)
    return tuple(layers)


def custom_names(config: Any) -> dict[str, str]:
    """Return the own class or function behind every name under which Keras will look for one, e.g. ``my>Swirl``."""
    found = {}
    for item in _objects(config, "", True):
        name = custom_name(item.node, is_layer=item.is_layer)
        if name:
            found[str(item.node.get("registered_name") or name)] = name
            found[name] = name
    return found


def custom_name(node: dict[str, Any], *, is_layer: bool) -> str:
    """Return the name of the user's own class or function that one object is of; empty for Keras' own."""
    name, module = str(node["class_name"]), node.get("module")
    if name == "function" and module == "builtins":
        return str(node.get("config"))
    if "module" in node:
        registered = str(node.get("registered_name") or "")
        standard = str(module).split(".")[0] == "keras" and ">" not in registered
    elif name.startswith("__"):
        standard = True  # Keras' own notation for tensors, tuples, slices
    else:
        standard = ">" not in name and (not is_layer or name in STANDARD_LAYERS | _MODELS)
    return "" if standard else name.rpartition(">")[2]


def inputs_of(config: dict[str, Any]) -> tuple[Input, ...]:
    """Return the inputs of a checked configuration; none where it does not say which they are."""
    return tuple(_input(entry) for entry in input_configs(config))


def input_configs(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the configuration of each input layer; of the first layer where a Sequential of Keras 2 has none."""
    layers = [layer for layer in config["config"].get("layers") or () if isinstance(layer, dict)]
    if config["class_name"] == "Sequential":
        layers = layers[:1]
    else:
        layers = [layer for layer in layers if layer.get("class_name") == "InputLayer"]
    found = [layer["config"] for layer in layers if isinstance(layer.get("config"), dict)]
    return [config for config in found if shape_key(config)]


def shape_key(config: dict[str, Any]) -> str:
    """Return the key that holds the shape of what comes in: Keras 3's, Keras 2's, or an empty text."""
    return next((key for key in ("batch_shape", "batch_input_shape") if isinstance(config.get(key), list)), "")


def _input(config: dict[str, Any]) -> Input:
    shape = tuple(size if isinstance(size, int) else None for size in config[shape_key(config)])
    dtype = config.get("dtype", "float32")
    return Input(str(config.get("name", "")), shape, dtype if isinstance(dtype, str) else "float32")


def _objects(value: Any, layer: str, is_layer: bool) -> Iterator[_Object]:
    """Yield every serialized object below ``value``, outer ones first; the compile state is not the model."""
    if isinstance(value, list):
        for item in value:
            yield from _objects(item, layer, is_layer)
    elif isinstance(value, dict):
        if "class_name" in value:
            inner = value.get("config")
            named = inner.get("name") if isinstance(inner, dict) else None
            layer = str(value.get("name") or named or layer) if is_layer else layer
            yield _Object(value, layer, is_layer)
        for key, item in value.items():
            if key not in ("compile_config", "build_config"):
                yield from _objects(item, layer, key in _LAYER_KEYS)


def _refuse_code(item: _Object, path: Path) -> None:
    if item.class_name in ("Lambda", "__lambda__"):
        raise UnsupportedError(
            f"{path} holds a Lambda layer {item.layer!r}: its code would have to be executed out of the file.",
            "Rewrite it with keras.layers or keras.ops (x * 2, keras.ops.relu(x), ...), and save the model again.",
        )
    if item.class_name in _RUNS_FOREIGN_CODE:
        raise UnsupportedError(
            f"{path} holds a {item.class_name} layer {item.layer!r}, which runs a model of another library.",
            "Convert that model itself, or rewrite the layer with keras.layers.",
        )


def _place(item: _Object) -> str:
    where, name = item.layer or "an object", item.class_name
    if name == "function":
        return f"{where!r} uses your own function {item.node.get('config')!r}"
    if name.endswith("OpLambda"):
        return f"{where!r} is a Keras 2 operation"
    return f"{where!r} is of the custom class {name}"


def _refuse(foreign: dict[str, str], path: Path, own: frozenset[str]) -> None:
    """Raise UnsupportedError for classes whose code nobody gave."""
    shown = "; ".join(list(foreign.values())[:_SHOWN]) + (
        f" and {len(foreign) - _SHOWN} more" * (len(foreign) > _SHOWN)
    )
    if own:
        raise UnsupportedError(
            f"{path}: {shown}, which the custom file does not define.",
            f"It defines {', '.join(sorted(own)[:_SHOWN])}. Add {', '.join(list(foreign)[:_SHOWN])}.",
        )
    hint = "Rewrite it with keras.layers or keras.ops, or export it to ONNX or as a SavedModel and give that."
    if not any(name.endswith("OpLambda") for name in foreign):
        hint = (
            "Name your Python file that defines it, which edgekit then runs: --custom my_layers.py, or custom under "
            f"[model]. Or: {hint[0].lower()}{hint[1:]}"
        )
    raise UnsupportedError(f"{path}: {shown}, whose code is not in the file.", hint)


_SHOWN = 5
