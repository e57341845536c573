"""Recorded words as the models that listen take them. Recordings of test and calibration are different ones."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter

from benchmarks.real_files import packages
from benchmarks.real_files.samples import COUNTS, Parts
from edgekit.runtimes import open_model

Array = npt.NDArray[Any]
_RATE = 16000
_CLIP = 2 * _RATE
_WINDOW, _STEP, _IN_A_ROW = 76, 8, 16  # of openWakeWord: spectra of a window, between windows, windows


def spoken(folder: Path) -> dict[str, list[Array]]:
    """Return recordings at 16 kHz, in the range of int16, for each part."""
    files = packages.members(folder, "asterisk-core-sounds-en-wav_*.deb", "*/en_US_f_Allison/*.wav")
    parts: dict[str, list[Array]] = {"test": [], "calibration": []}
    for i, content in enumerate(files.values()):
        with wave.open(io.BytesIO(content)) as stream:
            slow = np.frombuffer(stream.readframes(stream.getnframes()), "<i2").astype(np.float32)
            times = np.arange(len(slow) * _RATE // stream.getframerate()) * stream.getframerate() / _RATE
        sound = np.interp(times, np.arange(len(slow)), slow).astype(np.float32)
        parts["test" if i % 2 else "calibration"].append(sound)
    return parts


def spectrograms(folder: Path) -> Parts:
    """Return (n, 49, 40, 1) log-mel spectrograms of one second each, spread over the range of int8."""
    spoken_parts = spoken(folder)
    middle = {
        part: [_second(sound, 0.5) for sound in sounds if len(sound) >= _RATE][: COUNTS[part]]
        for part, sounds in spoken_parts.items()
    }
    long = [sound for sound in spoken_parts["calibration"] if len(sound) > 1.2 * _RATE]
    middle["train"] = [_second(sound, share) for sound in long for share in (0.0, 0.25, 0.75, 1.0)]
    return {part: {"x": np.stack(made)} for part, made in middle.items()}


def _second(sound: Array, share: float) -> Array:
    """Return the spectrogram of the second that ``share`` of what is left over comes before."""
    start = int((len(sound) - _RATE) * share)
    frames = np.stack([sound[start + i : start + i + 480] for i in range(0, _RATE - 480 + 1, 320)])
    bank = _mel_bank(40, 480, 125.0, 7500.0)
    power = np.log1p(np.abs(np.fft.rfft(frames * np.hanning(480))) ** 2 @ bank.T)
    found: Array = (power / power.max() * 255 - 128)[..., None].astype(np.float32)
    return found


def _mel_bank(count: int, window: int, low: float, high: float) -> Array:
    def mel(hertz: Any) -> Any:
        return 1127.0 * np.log1p(hertz / 700.0)

    edges = np.linspace(mel(low), mel(high), count + 2)
    bins = mel(np.fft.rfftfreq(window, 1 / _RATE))
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    bank: Array = np.clip(np.minimum(rising, falling), 0, None)
    return bank


def windows(folder: Path, work: Path) -> Parts:
    """Return (n, 76, 32, 1): the middle of two seconds of words as openWakeWord's embedding takes them."""
    middle = slice(60, 60 + _WINDOW)
    return {part: {"x": mels[:, middle, :, None]} for part, mels in _mels(folder, work).items()}


def embeddings(folder: Path, work: Path) -> Parts:
    """Return (n, 16, 96): what openWakeWord's embedding makes of two seconds of words."""
    path = work / "embedding_model.tflite"
    path.write_bytes(packages.member(folder, "pyopen_wakeword-*.whl", "*/embedding_model.tflite"))
    session = open_model(path, "tflite")
    parts: Parts = {}
    for part, mels in _mels(folder, work).items():
        starts = [i * _STEP for i in range(_IN_A_ROW)]
        made = [[session.run([clip[None, s : s + _WINDOW, :, None]])[0].ravel() for s in starts] for clip in mels]
        parts[part] = {"x": np.array(made, np.float32)}
    return parts


def _mels(folder: Path, work: Path) -> dict[str, Array]:
    """Return (n, 197, 32) spectra of two seconds of words, from openWakeWord's own network for them."""
    path = work / "melspectrogram.tflite"
    path.write_bytes(packages.member(folder, "pyopen_wakeword-*.whl", "*/melspectrogram.tflite"))
    interpreter = Interpreter(str(path), num_threads=1)
    given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(given, [1, _CLIP])
    interpreter.allocate_tensors()
    found = {}
    for part, recordings in spoken(folder).items():
        sound, spectra = np.concatenate(recordings), []
        for start in range(0, min(COUNTS[part], len(sound) // _CLIP) * _CLIP, _CLIP):
            interpreter.set_tensor(given, sound[None, start : start + _CLIP])
            interpreter.invoke()
            spectra.append(interpreter.get_tensor(made).reshape(-1, 32) / 10 + 2)
        found[part] = np.stack(spectra).astype(np.float32)
    return found
