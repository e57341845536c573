"""What is drawn of a device's run."""

from __future__ import annotations

import pytest

from edgekit.console.device import over_time, show_runs
from edgekit.single import how_long

STATE = {
    "governor": "ondemand",
    "power_mode": "",
    "frequency_mhz": 1500.0,
    "temperature_c": 48.2,
    "power_w": None,
    "slowed_by": [],
}
RUN = {
    "device": "ssh://pi@board", "machine": "Raspberry Pi 4 Model B Rev 1.5, 4 cores", "system": "Linux 6.6",
    "emulated": False, "difference": 1.0, "before": STATE,
    "after": STATE | {"temperature_c": 71.5, "slowed_by": ["throttled"]},
    "latency": {
        "min_ms": 9.0, "p50_ms": 9.5, "p90_ms": 10.0, "p99_ms": 11.0, "load_ms": 20.0, "peak_memory_bytes": 50_000_000,
        "flags": ["throttled"], "ops": [], "runtime": "ai-edge-litert", "runtime_version": "2.3.0", "threads": 4,
    },
}  # fmt: skip


def test_the_settings_are_told_before_and_after(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    show_runs({"model.tflite": RUN})
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    assert "outputs within one step of this host's" in words
    assert "on ssh://pi@board (Raspberry Pi 4 Model B Rev 1.5, 4 cores, Linux 6.6)" in words
    assert "ondemand; 1500 MHz; 48.2 °C then 71.5 °C; slowed by: throttled" in words


def test_an_emulated_device_shows_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    show_runs({"model.tflite": RUN | {"emulated": True, "latency": None, "difference": 0.0}})
    out = capsys.readouterr().out
    assert "bit by bit" in out
    assert "emulated" in out
    assert " ms" not in out


def test_the_latency_over_time_keeps_the_order() -> None:
    assert over_time([1_000_000] * 50 + [3_000_000] * 50) == [1.0] * 5 + [3.0] * 5
    assert over_time([1_000_000, 2_000_000, 4_000_000]) == [1.0, 2.0, 4.0]


def test_stop_rules() -> None:
    assert how_long(2, True, None) == {"samples": 1024, "seconds": 60.0, "limit_s": 600.0, "seed": 0}
    sustained = how_long(2, False, 600)
    assert sustained["seconds"] == 600
    assert sustained["seconds"] / sustained["rounds"] <= 30
    assert how_long(2, False, None)["seconds"] == 2
