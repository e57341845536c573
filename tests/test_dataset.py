"""Samples and truth: what is read is exact, and what cannot be read is named."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.artifact import TensorSpec
from edgekit.as_input import as_input
from edgekit.dataset import Dataset, Preprocess, open_dataset, read_image
from edgekit.errors import RecipeError

PLAIN = Preprocess(size=None, color="rgb", mean=(0.0,), scale=(1.0,))
SIZED = Preprocess(size=(6, 4), color="rgb", mean=(0.0,), scale=(1.0,))
NHWC = TensorSpec("image", (1, 6, 4, 3), "float32", "NHWC")


def pixels(seed: int = 0, *, height: int = 6, width: int = 4) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_image(path: Path, seed: int = 0, **size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, **size)).save(path)
    return path


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


# -- preprocessing ------------------------------------------------------------------------------------------------


def test_preprocessing_is_minus_mean_times_scale() -> None:
    table = {"size": [6, 4], "color": "rgb", "mean": [1, 2, 3], "scale": [0.5, 0.25, 2]}
    preprocess = Preprocess.from_json(table)
    result = preprocess.apply(np.array([[[3, 10, 5]]], np.uint8))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, [[[1, 2, 4]]])  # exact: halves and integers
    assert preprocess.size == (6, 4)


def test_integers_stay_integers_where_nothing_is_to_be_done() -> None:
    tokens = np.array([1, 2**31 - 1], np.int32)  # float32 would round it
    assert PLAIN.apply(tokens) is tokens


@pytest.mark.parametrize(("color", "channels"), [("rgb", [0, 1, 2]), ("bgr", [2, 1, 0])])
def test_color_order(tmp_path: Path, color: str, channels: list[int]) -> None:
    path = write_image(tmp_path / "a.png")
    found = read_image(path, Preprocess(None, color, (0.0,), (1.0,)))
    np.testing.assert_array_equal(found, pixels()[..., channels])


def test_gray_has_one_channel(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png")
    assert read_image(path, Preprocess(None, "gray", (0.0,), (1.0,))).shape == (6, 4, 1)


def test_a_model_that_takes_channels_first_gets_them_first(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    samples = open_dataset("imagefolder", tmp_path, None, SIZED, labelled=False)
    given = samples.inputs(0, [TensorSpec("image", (1, 3, 6, 4), "float32")])["image"]
    np.testing.assert_array_equal(given[0], pixels().transpose(2, 0, 1))
    assert given.flags.c_contiguous


def test_a_sample_the_model_does_not_take(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", height=8)
    samples = open_dataset("imagefolder", tmp_path, None, PLAIN, labelled=False)
    with pytest.raises(RecipeError, match=r"a\.png has shape \(8, 4, 3\).*'image' takes \(6, 4, 3\)"):
        samples.inputs(0, [NHWC])


# -- images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_a_truncated_image(tmp_path: Path, suffix: str, share: float) -> None:
    path = write_image(tmp_path / f"a.{suffix}", height=60, width=40)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(RecipeError, match=f"a.{suffix} is not a readable image"):
        read_image(path, PLAIN)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_random_damage_to_an_image_ends_in_a_recipe_error(tmp_path: Path, suffix: str) -> None:
    whole = write_image(tmp_path / f"a.{suffix}").read_bytes()
    draw, refused = random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(8):
            damaged[draw.randrange(min(len(whole), 60))] = draw.randrange(256)
        (tmp_path / f"a.{suffix}").write_bytes(damaged)
        try:
            read_image(tmp_path / f"a.{suffix}", SIZED)
        except RecipeError:
            refused += 1
    assert refused > 50


def test_an_image_of_another_size_and_a_missing_one(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", height=4, width=6)
    with pytest.raises(RecipeError, match=r"a\.png is 6x4, preprocess\.size asks for 4x6") as caught:
        read_image(path, SIZED)
    assert "Resize" in caught.value.hint
    with pytest.raises(RecipeError, match="does not exist"):
        read_image(tmp_path / "b.png", SIZED)


def test_a_huge_image_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    Image.new("1", (9_000, 8_000)).save(tmp_path / "a.png")  # 9 kB that unpack to 216 MB of RGB
    with pytest.raises(RecipeError, match="9000x8000 pixels"):
        read_image(tmp_path / "a.png", PLAIN)


def test_check_names_every_broken_image_at_once(tmp_path: Path) -> None:
    for name in "abcdefg":
        (tmp_path / f"{name}.png").write_bytes(b"x")
    write_image(tmp_path / "fine.png")
    with pytest.raises(RecipeError) as caught:
        open_dataset("imagefolder", tmp_path, None, PLAIN, labelled=False).check()
    assert [line.count(".png is not a readable image") for line in caught.value.message.splitlines()] == [1] * 5 + [0]
    assert "and 2 more" in caught.value.message


# -- COCO ---------------------------------------------------------------------------------------------------------


def coco(folder: Path, **changes: Any) -> Dataset:
    write_image(folder / "images" / "b.png", 1)
    write_image(folder / "images" / "a.png", 2)
    document = {
        "images": [{"id": 7, "file_name": "b.png"}, {"id": 3, "file_name": "a.png"}],
        "categories": [{"id": 90, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": [{"image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4]}],
    }
    (folder / "labels.json").write_text(json.dumps({**document, **changes}))
    return open_dataset("coco", folder / "images", folder / "labels.json", SIZED, labelled=True)


def annotation(**changes: Any) -> list[dict[str, Any]]:
    return [{"image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], **changes}]


def test_coco_boxes_become_corners_and_classes_indices(tmp_path: Path) -> None:
    samples = coco(tmp_path)
    assert (samples.classes, [samples.name(0), samples.name(1)]) == (("cat", "dog"), ["a.png", "b.png"])
    assert len(samples.truth[0].boxes) == 0
    assert samples.truth[0].boxes.shape == (0, 4)
    np.testing.assert_array_equal(samples.truth[1].boxes, [[1, 2, 4, 6]])
    assert samples.truth[1].classes.tolist() == [1]
    np.testing.assert_array_equal(samples.inputs(1, [NHWC])["image"][0], pixels(1))


def test_coco_labels_that_name_missing_images(tmp_path: Path) -> None:
    images = [{"id": 7, "file_name": "b.png"}, {"id": 1, "file_name": "c.png"}, {"id": 2, "file_name": "d.png"}]
    with pytest.raises(RecipeError, match=r"names 2 image\(s\) that are not in .*, first 'c\.png'"):
        coco(tmp_path, images=images)


def test_coco_classes_of_the_recipe_must_be_the_categories(tmp_path: Path) -> None:
    coco(tmp_path)
    with pytest.raises(RecipeError, match=r"\['dog', 'cat'\] are not the categories"):
        open_dataset(
            "coco", tmp_path / "images", tmp_path / "labels.json", SIZED, labelled=True, classes=["dog", "cat"]
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"annotations": annotation(image_id=99)},
        {"annotations": annotation(category_id=99)},
        {"annotations": annotation(bbox=[1, 2, 3])},
        {"annotations": annotation(bbox="abcd")},
        {"annotations": annotation(bbox=[0, 0, float("nan"), 1])},
        {"annotations": annotation(bbox=[0, 0, -1, 1])},
        {"annotations": None},
        {"images": [{"id": 7, "file_name": "b.png"}, {"id": 7, "file_name": "a.png"}]},
        {"images": [{"id": 7, "file_name": "b.png"}, {"id": 8, "file_name": "b.png"}]},
        {"categories": [{"id": 90, "name": "dog"}, {"id": 90, "name": "cat"}]},
        {"categories": [{"id": 90}]},
    ],
    ids=lambda changes: json.dumps(changes)[:60],
)
def test_coco_labels_that_contradict_themselves(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"labels\.json is not a COCO annotation file"):
        coco(tmp_path, **changes)


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", "null", '{"images": []}'])
def test_labels_that_are_no_coco_file(tmp_path: Path, content: str) -> None:
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(RecipeError, match=r"labels\.json is not a"):
        open_dataset("coco", tmp_path / "images", tmp_path / "labels.json", SIZED, labelled=True)


def test_coco_without_labels_is_a_folder_of_images(tmp_path: Path) -> None:
    write_image(tmp_path / "deep" / "a.JPG")
    (tmp_path / "notes.txt").touch()
    samples = open_dataset("coco", tmp_path, None, PLAIN, labelled=False)
    assert (len(samples), samples.truth) == (1, None)


# -- class folders ------------------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    for index, name in enumerate(["cat/2.png", "cat/1.png", "ant/9.png"]):
        write_image(tmp_path / name, index)
    samples = open_dataset("imagefolder", tmp_path, None, SIZED, labelled=True)
    assert (samples.classes, samples.truth.tolist()) == (("ant", "cat"), [0, 1, 1])
    samples = open_dataset("imagefolder", tmp_path, None, SIZED, labelled=True, classes=["cat", "dog", "ant"])
    assert samples.truth.tolist() == [2, 0, 0]
    with pytest.raises(RecipeError, match=r"ant is not one of task\.classes"):
        open_dataset("imagefolder", tmp_path, None, SIZED, labelled=True, classes=["cat"])


def test_folders_without_images_and_files_in_place_of_folders(tmp_path: Path) -> None:
    file = write_image(tmp_path / "a.png")
    for labelled in (True, False):
        with pytest.raises(RecipeError, match="is not a folder"):
            open_dataset("imagefolder", file, None, SIZED, labelled=labelled)
        with pytest.raises(RecipeError, match="There is no"):
            open_dataset("imagefolder", tmp_path / "none", None, SIZED, labelled=labelled)
    with pytest.raises(RecipeError, match="no class folder"):
        open_dataset("imagefolder", tmp_path, None, SIZED, labelled=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="holds no image"):
        open_dataset("imagefolder", tmp_path, None, SIZED, labelled=True)


# -- .npz ---------------------------------------------------------------------------------------------------------


def test_npz_arrays_and_labels(tmp_path: Path) -> None:
    tokens = np.arange(12, dtype=np.int32).reshape(3, 4)
    samples = open_dataset("npz", npz(tmp_path / "d.npz", x=tokens, y=[0, 1, 0]), None, PLAIN, labelled=True)
    spec = TensorSpec("tokens", (1, 4), "int32")
    assert (len(samples), samples.truth.tolist(), samples.name(2)) == (3, [0, 1, 0], "d.npz[2]")
    np.testing.assert_array_equal(samples.inputs(1, [spec])["tokens"], tokens[1:2])
    np.testing.assert_array_equal(samples.stacked([spec])["tokens"], tokens)
    assert len(list(samples.batches([spec], limit=2))) == 2


def test_npz_of_a_model_with_two_inputs(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", a=np.ones((2, 3)), b=np.zeros((2, 5)))
    samples = open_dataset("npz", path, None, PLAIN, labelled=False)
    specs = [TensorSpec("b", (1, 5), "float32"), TensorSpec("a", (1, 3), "float32")]
    assert [array.shape for array in samples.inputs(0, specs).values()] == [(1, 5), (1, 3)]
    with pytest.raises(RecipeError, match="no array named 'c'"):
        samples.inputs(0, [*specs, TensorSpec("c", (1, 1), "float32")])
    with pytest.raises(RecipeError, match="expected one array"):
        samples.inputs(0, [TensorSpec("c", (1, 1), "float32")])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((3, 2)), "y": np.ones(4)}, "one row per sample"),
        ({"x": np.ones((0, 2))}, "one row per sample"),
        ({"y": np.ones(4)}, "one row per sample"),
        ({"x": np.ones((3, 2)), "y": np.int64(3)}, "array 'y'"),
        ({"x": np.array(["a", "b"])}, "array 'x'"),
        ({"x": np.array([{}, 1], object)}, "allow_pickle=False"),
    ],
    ids=["lengths", "empty", "labels-only", "scalar", "text", "pickle"],
)
def test_npz_files_that_hold_no_samples(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        open_dataset("npz", npz(tmp_path / "d.npz", **arrays), None, PLAIN, labelled=True)


@pytest.mark.filterwarnings("ignore")  # numpy warns of headers that need its slow parser before it refuses them
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_random_damage_to_an_npz_ends_in_a_recipe_error(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "d.npz"
    save(path, x=np.random.default_rng(0).random((5, 6)), y=np.arange(5))
    whole, draw, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[draw.choice([draw.randrange(len(whole)), -draw.randrange(1, 200)])] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            open_dataset("npz", path, None, PLAIN, labelled=True)
        except RecipeError:
            refused += 1
    assert refused > 300


def test_other_files_under_the_name_of_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    with path.open("wb") as stream:
        np.save(stream, np.ones((2, 2)))  # an .npy
    with pytest.raises(RecipeError, match=r"not an \.npz file") as caught:
        open_dataset("npz", path, None, PLAIN, labelled=False)
    assert "numpy.savez" in caught.value.hint
    with pytest.raises(RecipeError, match=r"not an \.npz file"):
        open_dataset("npz", tmp_path, None, PLAIN, labelled=False)


def test_npz_with_nan_is_refused_by_check(tmp_path: Path) -> None:
    path = npz(tmp_path / "d.npz", x=np.array([[1.0], [np.nan]]))
    with pytest.raises(RecipeError, match="'x' holds NaN"):
        open_dataset("npz", path, None, PLAIN, labelled=False).check()


# -- disjointness -------------------------------------------------------------------------------------------------


def test_fingerprints_see_a_shared_sample_whatever_its_name(tmp_path: Path) -> None:
    write_image(tmp_path / "test" / "a.png", 1)
    write_image(tmp_path / "calibration" / "z.png", 1)
    write_image(tmp_path / "calibration" / "a.png", 2)
    test, calibration = (
        open_dataset("coco", tmp_path / name, None, SIZED, labelled=False) for name in ("test", "calibration")
    )
    assert len(test.fingerprints() & calibration.fingerprints()) == 1
    arrays = [
        open_dataset("npz", npz(tmp_path / f"{n}.npz", x=np.eye(4)[n:]), None, PLAIN, labelled=False) for n in (0, 3)
    ]
    assert len(arrays[0].fingerprints()) == 4
    assert arrays[0].fingerprints() > arrays[1].fingerprints()


def test_numbers_that_an_integer_input_cannot_hold_are_refused() -> None:
    """They would wrap around or be cut to 0 and 1, and every figure after that would be one of noise."""
    spec = TensorSpec("image", (1, 3), "int8")
    for wrong in (np.array([0.1, 0.5, 1.0], np.float32), np.array([0, 100, 200], np.uint8)):
        with pytest.raises(RecipeError, match="'image' takes int8: they would become others") as caught:
            as_input(wrong, spec, "x[0]")
        assert "mean = [128.0]" in caught.value.hint
    assert as_input(np.array([-127.6, 3.4, 90.5], np.float32), spec, "x[0]").tolist() == [[-128, 3, 90]]
    ids = as_input(np.array([3.0, 0.0, 30521.0]), TensorSpec("ids", (1, 3), "int64"), "x[0]")
    assert (ids.dtype, ids.tolist()) == (np.int64, [[3, 0, 30521]])
