"""Keras' own losses by the names a saved model gives them; nothing else is ever built out of a file."""

from __future__ import annotations

import inspect
from typing import Any

import keras

STANDARD: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        keras.losses.BinaryCrossentropy,
        keras.losses.BinaryFocalCrossentropy,
        keras.losses.CategoricalCrossentropy,
        keras.losses.CategoricalFocalCrossentropy,
        keras.losses.CategoricalHinge,
        keras.losses.CosineSimilarity,
        keras.losses.Dice,
        keras.losses.Hinge,
        keras.losses.Huber,
        keras.losses.KLDivergence,
        keras.losses.LogCosh,
        keras.losses.MeanAbsoluteError,
        keras.losses.MeanAbsolutePercentageError,
        keras.losses.MeanSquaredError,
        keras.losses.MeanSquaredLogarithmicError,
        keras.losses.Poisson,
        keras.losses.SparseCategoricalCrossentropy,
        keras.losses.SquaredHinge,
        keras.losses.Tversky,
    )
}
CATEGORICAL = {"CategoricalCrossentropy", "CategoricalFocalCrossentropy", "CategoricalHinge", "KLDivergence"}
_SHORT = {
    "mse": "MeanSquaredError",
    "mae": "MeanAbsoluteError",
    "mape": "MeanAbsolutePercentageError",
    "msle": "MeanSquaredLogarithmicError",
    "bce": "BinaryCrossentropy",
    "kld": "KLDivergence",
    "kldivergence": "KLDivergence",
}
_KEPT_BY_EDGEKIT = {"self", "name", "reduction", "dtype"}
_NOT_SAVED = {"CosineSimilarity": "axis", "Huber": "delta"}  # Keras 3.15 leaves these out of the file


def standard(described: Any) -> keras.losses.Loss | str:
    """Build the loss that a compile configuration describes, as a mean over the batch, or say why not."""
    if isinstance(described, str):
        return _by_name(described)
    if not isinstance(described, dict) or not isinstance(described.get("class_name"), str):
        return "its compiled loss is none of Keras' own"
    name, config = described["class_name"], described.get("config")
    if name == "function" and isinstance(config, str):
        return _by_name(config)
    own = str(described.get("module") or "keras").split(".")[0] == "keras" and not described.get("registered_name")
    if name not in STANDARD or not own or not isinstance(config, dict):
        return f"its compiled loss {name} is none of Keras' own, and the file does not hold its code"
    if (unsaved := _NOT_SAVED.get(name)) and unsaved not in config:
        return f"Keras did not save the {unsaved} of its compiled loss {name}"
    known = set(inspect.signature(STANDARD[name].__init__).parameters)
    settings = {key: value for key, value in config.items() if key not in _KEPT_BY_EDGEKIT}
    odd = sorted(key for key, value in settings.items() if key not in known or isinstance(value, dict))
    if odd:
        return f"its compiled loss {name} has a setting that this Keras does not know: {odd[0]}"
    return STANDARD[name](**settings)


def _by_name(text: str) -> keras.losses.Loss | str:
    """Build a loss given as "mse", "mean_squared_error" or "MeanSquaredError", with Keras' defaults."""
    spelled = {"".join(name.lower().split("_")): name for name in STANDARD}
    name = _SHORT.get(text.lower()) or spelled.get(text.lower().replace("_", ""))
    return STANDARD[name]() if name else f"its compiled loss {text!r} is none of Keras' own"
