"""Compose labelled scenes: handwritten digits, scaled, tinted and pasted on crops of photographs."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage import data as skimage_data
from sklearn.datasets import load_digits, load_sample_images  # type: ignore[import-untyped]

SCENE_SIZE = 128
SKIMAGE_PHOTOS = (
    "astronaut", "camera", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field",
    "brick", "grass", "gravel",
)  # fmt: skip
TRAIN_PHOTO_SHARE = 0.7  # the left part of every photo; test scenes see the right part only
TRAIN_DIGITS, CALIBRATION_DIGITS = 1300, 100  # the remaining 397 appear in test scenes only
DIGIT_HEIGHTS_PX = (14, 52)
INK_THRESHOLD = 0.35
MAX_OVERLAP = 0.1

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """One composed image: pixels (128, 128, 3), boxes (n, 4) xyxy in pixels, classes (n,)."""

    pixels: Pixels
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Material:
    """What one part's scenes are made of: digit images (m, 8, 8) in [0, 1], their classes, photo parts."""

    digits: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    photos: list[Pixels]


def load_material() -> dict[str, Material]:
    """Split digits and photographs into the disjoint parts "train", "calibration" and "test".

    Calibration shares the photographs' left part with training, but none of its digits.
    """
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.images))
    digits = (bunch.images[order] / 16.0).astype(np.float32)
    classes = bunch.target[order].astype(np.int64)
    left, right = _split_photos()
    ends = {"train": TRAIN_DIGITS, "calibration": TRAIN_DIGITS + CALIBRATION_DIGITS, "test": len(digits)}
    material, start = {}, 0
    for part, end in ends.items():
        photos = right if part == "test" else left
        material[part] = Material(digits[start:end], classes[start:end], photos)
        start = end
    return material


def compose_scene(material: Material, rng: np.random.Generator) -> Scene:
    """Paste one to six digits on a crop of a photograph; each box is tight around the visible ink."""
    canvas = _background(material.photos, rng).astype(np.float32)
    boxes: list[tuple[float, float, float, float]] = []
    classes: list[int] = []
    for _ in range(int(rng.integers(1, 7))):
        index = int(rng.integers(len(material.digits)))
        ink = _stretch_digit(material.digits[index], rng)
        placed = _find_place(ink, boxes, rng)
        if placed is None:
            continue
        left, top, box = placed
        _paste(canvas, ink, left, top, rng)
        boxes.append(box)
        classes.append(int(material.classes[index]))
    canvas += rng.normal(0.0, rng.uniform(0.0, 6.0), canvas.shape)
    return Scene(
        np.clip(canvas, 0, 255).astype(np.uint8),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
    )


def _split_photos() -> tuple[list[Pixels], list[Pixels]]:
    photos: list[Any] = [getattr(skimage_data, name)() for name in SKIMAGE_PHOTOS]
    photos += list(load_sample_images().images)
    left, right = [], []
    for photo in photos:
        rgb = np.asarray(Image.fromarray(photo).convert("RGB"))
        cut = int(rgb.shape[1] * TRAIN_PHOTO_SHARE)
        left.append(rgb[:, :cut])
        right.append(rgb[:, cut:])
    return left, right


def _background(photos: list[Pixels], rng: np.random.Generator) -> Pixels:
    photo = photos[int(rng.integers(len(photos)))]
    limit = min(photo.shape[0], photo.shape[1])
    side = int(rng.integers(min(80, limit), min(limit, 320) + 1))
    top = int(rng.integers(photo.shape[0] - side + 1))
    left = int(rng.integers(photo.shape[1] - side + 1))
    crop = Image.fromarray(photo[top : top + side, left : left + side])
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(crop.resize((SCENE_SIZE, SCENE_SIZE), Image.Resampling.BILINEAR))


def _stretch_digit(digit: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Scale (log-uniform), stretch and tilt an 8x8 digit; returns its opacity map in [0, 1]."""
    low, high = np.log(DIGIT_HEIGHTS_PX)
    height = round(float(np.exp(rng.uniform(low, high))))
    width = max(10, round(height * rng.uniform(0.75, 1.15)))
    image = Image.fromarray(np.pad(digit, 1)).resize((width * 10 // 8, height * 10 // 8), Image.Resampling.BICUBIC)
    image = image.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR)
    return np.clip((np.asarray(image) - 0.2) * 1.8, 0.0, 1.0).astype(np.float32)


def _find_place(
    ink: npt.NDArray[np.float32], boxes: list[tuple[float, float, float, float]], rng: np.random.Generator
) -> tuple[int, int, tuple[float, float, float, float]] | None:
    """Return a corner for the opacity map and its ink's box, hardly covering earlier digits, or None."""
    rows, columns = np.nonzero(ink > INK_THRESHOLD)
    if len(rows) == 0:
        return None
    for _ in range(10):
        left = int(rng.integers(SCENE_SIZE - ink.shape[1] + 1))
        top = int(rng.integers(SCENE_SIZE - ink.shape[0] + 1))
        box = (
            float(left + columns.min()), float(top + rows.min()),
            float(left + columns.max() + 1), float(top + rows.max() + 1),
        )  # fmt: skip
        if all(_overlap(box, other) <= MAX_OVERLAP for other in boxes):
            return left, top, box
    return None


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    """Return the shared area as a fraction of the smaller box."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(width, 0.0) * max(height, 0.0) / min(areas)


def _paste(
    canvas: npt.NDArray[np.float32],
    ink: npt.NDArray[np.float32],
    left: int,
    top: int,
    rng: np.random.Generator,
) -> None:
    """Blend a tint, drawn to differ visibly from what lies under it, into the canvas."""
    window = canvas[top : top + ink.shape[0], left : left + ink.shape[1]]
    under = window.mean(axis=(0, 1))
    tint = rng.uniform(0, 255, 3)
    while np.abs(tint - under).sum() < 130:
        tint = rng.uniform(0, 255, 3)
    opacity = ink[..., None] * rng.uniform(0.7, 1.0)
    window += opacity * (tint.astype(np.float32) - window)
