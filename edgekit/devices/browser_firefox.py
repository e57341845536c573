"""Firefox as a plain process: what Playwright drives is a Firefox of its own, not the installed one."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from edgekit.errors import DeviceError, DroppedError

_STOP_S = 10.0
# Nothing is fetched, reported or asked; the page keeps its full clock and threads.
_SETTINGS = {
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}


@contextmanager
def started(executable: str, address: str, ended: Callable[[DeviceError], None]) -> Iterator[str]:
    """Open an address in it and yield its version; ``ended`` is told when it dies before the context is left."""
    said = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"[\d.]+", said)
    with tempfile.TemporaryDirectory(prefix="edgekit-firefox-", ignore_cleanup_errors=True) as profile:
        settings = [f'user_pref("{name}", {str(value).lower()});\n' for name, value in _SETTINGS.items()]
        (Path(profile) / "user.js").write_text("".join(settings))
        process = subprocess.Popen(
            [executable, "--headless", "--no-remote", "--profile", profile, address],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        stopping = False

        def watch() -> None:
            status = process.wait()
            if not stopping:
                ended(DroppedError(f"{executable} was closed or ended (exit code {status})."))

        watcher = Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield version[0] if version else ""
        finally:
            stopping = True
            process.terminate()
            watcher.join(_STOP_S)
            process.kill()
            watcher.join(_STOP_S)
