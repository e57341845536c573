"""The log of a bug: what a report needs is in it, and no secret, wherever it stood."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from edgekit import __version__, bug

SECRETS = {
    "in an address": ("ssh://pi:hunter2-{}@board:22", "ssh://pi:***@board:22"),
    "the page's token": ("--device browser:wasm@127.0.0.1:8765/{}", "browser:wasm@127.0.0.1:8765/***"),
    "an option": ("--set api_key={}", "api_key=***"),
    "JSON": ('{{"password": "{}", "user": "pi"}}', '"password": "***", "user": "pi"'),
    "a query": ("http://host/x?token={}&page=2", "token=***&page=2"),
    "a header": ("Authorization: Bearer {}", "Bearer ***"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_is_hidden_and_what_stands_around_it_stays(kind: str) -> None:
    text, left = SECRETS[kind]
    shown = bug.without_secrets(text.format("s3cr3t-0123456789"))
    assert "s3cr3t" not in shown
    assert left in shown


def test_values_of_secret_variables_and_the_home_folder_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("CI_JOB_TOKEN", "glcbt-64_abcdef")
    monkeypatch.setenv("AUTH_MODE", "on")  # too short to be one
    monkeypatch.setenv("EDGEKIT_CACHE", "/var/cache/edgekit")
    text = "open('/home/ada/models/a.keras') and /home/adam/b on glcbt-64_abcdef in /var/cache/edgekit"
    assert bug.without_secrets(text) == "open('~/models/a.keras') and /home/adam/b on *** in /var/cache/edgekit"


def test_words_about_secrets_stay() -> None:
    text = "KeyError: 'token'\n  File 'tokenizer.py', line 3, in tokens\nsha256 0123456789abcdef"
    assert bug.without_secrets(text) == text


def test_the_log_has_what_a_report_needs_and_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["edgekit", "profile", "a b.tflite", "--device", "ssh://pi:hunter22@board"])
    monkeypatch.setenv("MY_API_TOKEN", "abcdef123456")
    try:
        raise ZeroDivisionError("refused with abcdef123456")
    except ZeroDivisionError as error:
        path = bug.write(error)
    text = path.read_text()
    assert "hunter22" not in text
    assert "abcdef123456" not in text
    assert f"edgekit {__version__}, Python 3." in text
    assert "ai-edge-litert 2." in text
    assert "Command: `edgekit profile 'a b.tflite' --device ssh://pi:***@board`" in text
    assert "ZeroDivisionError: refused with ***" in text
    assert "test_bug.py" in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
