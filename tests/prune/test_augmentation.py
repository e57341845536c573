from __future__ import annotations

import numpy as np
import pytest

from edgekit.prune.recovery.augmentation import has_images, mix

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((6, 32, 48, 3), np.float32)


def test_images_change_within_their_range_and_keep_their_shape() -> None:
    mixed = mix({"image": IMAGES}, np.random.default_rng(1))["image"]
    assert mixed.shape == IMAGES.shape
    assert mixed.dtype == IMAGES.dtype
    assert mixed.min() >= IMAGES.min()
    assert mixed.max() <= IMAGES.max()
    assert all(np.abs(new - old).mean() > 0.01 for new, old in zip(mixed, IMAGES, strict=True))


def test_the_same_seed_gives_the_same_images() -> None:
    first, second = (mix({"image": IMAGES}, np.random.default_rng(7))["image"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_patch_comes_from_another_image() -> None:
    flat = np.repeat(np.arange(4, dtype=np.float32), 32 * 32 * 3).reshape(4, 32, 32, 3)
    mixed = mix({"image": flat}, np.random.default_rng(0))["image"]
    kinds = [len(np.unique(image.round(3))) for image in mixed]
    assert max(kinds) == 2  # its own colour and that of one partner


@pytest.mark.parametrize(
    "array",
    [
        RANDOM.integers(0, 255, (4, 32, 32, 3)),
        RANDOM.random((4, 32), np.float32),
        RANDOM.random((4, 1, 1, 16), np.float32),
    ],
    ids=["integers", "vectors", "no space"],
)
def test_what_is_no_image_passes_unchanged(array: np.ndarray) -> None:
    assert not has_images({"x": array})
    np.testing.assert_array_equal(mix({"x": array}, np.random.default_rng(0))["x"], array)
