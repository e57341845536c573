"""What recovery learns from besides the unpruned model: the truth of the samples, and a loss over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import tensorflow as tf

Arrays = dict[str, npt.NDArray[Any]]
Tensors = dict[str, tf.Tensor]
Loss = Callable[[Tensors, Tensors], tf.Tensor]
Encode = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Teaching:
    """The truth of all samples and how a batch of it becomes a loss, or why there is none.

    source_text: what teaches, in a few words, or without a loss the reason in one sentence.
    truth: one row per sample, as ``losses.truth`` lays it out; augmentation may move it with the images.
    encode: turns a batch of truth into the labels that ``loss(outputs, labels)`` takes.
    """

    source_text: str
    truth: Arrays | None = None
    loss: Loss | None = None
    encode: Encode = dict

    @property
    def labels(self) -> Arrays | None:
        """Encode the truth of all samples at once."""
        return None if self.truth is None else self.encode(self.truth)


def no_labels(reason: str) -> Teaching:
    """Return the teaching of a model that learns from the unpruned one alone."""
    return Teaching(reason)
