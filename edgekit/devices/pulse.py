"""A local process at the other end of which something echoes each line: whether the wire between them is sound."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from contextlib import suppress
from queue import Queue
from threading import Event, Thread

SILENCE_S = 7.0
SILENT = f"not responding: no echo for {SILENCE_S:.0f} s"
_BEAT_S = 2.0
_END_S = 5.0
_LAST_LINES = 20


class Pulse:
    """One wire command. After ``start`` it is sent a line every two seconds, and listened to."""

    def __init__(self, command: list[str]) -> None:
        self.last_seen = time.monotonic()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._said: deque[str] = deque(maxlen=_LAST_LINES)
        self._lines: Queue[str] = Queue()
        self._over = Event()
        self._threads = [Thread(target=self._read_stderr, daemon=True), Thread(target=self._read_stdout, daemon=True)]
        for thread in self._threads:
            thread.start()

    def start(self) -> None:
        """Begin to beat: the other end is known to echo now."""
        self.last_seen = time.monotonic()
        self._threads.append(Thread(target=self._beat, daemon=True))
        self._threads[-1].start()

    def line(self, timeout_s: float) -> str:
        """Return the next line before ``start``; "" at the end. Raises queue.Empty when out of time."""
        return self._lines.get(timeout=timeout_s)

    @property
    def is_silent(self) -> bool:
        return time.monotonic() - self.last_seen > SILENCE_S

    def is_beating(self) -> bool:
        """Whether the wire is sound, after a moment in which its command may notice that it broke."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        return self._process.poll() is None and not self.is_silent

    def last_words(self) -> list[str]:
        """Return what the command wrote to stderr, after a moment in which it may end."""
        if self.is_silent and self._process.poll() is None:
            return [*self._said, SILENT]
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
            self._threads[0].join(_END_S)
        return list(self._said)

    def end(self, *, farewell: bool = False, patience_s: float = _END_S) -> int:
        """End the command and return its exit status; ``farewell`` tells the other end that this is meant."""
        self._over.set()
        patience_s = 0.0 if self.is_silent else patience_s
        assert self._process.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # it ended, or was ended before
            if farewell:
                self._process.stdin.write(b"bye\n")
            self._process.stdin.close()
        try:
            status = self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        for thread in self._threads:
            thread.join(_END_S)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        return status

    def _beat(self) -> None:
        assert self._process.stdin is not None
        while not self._over.wait(_BEAT_S):
            try:
                self._process.stdin.write(b"beat\n")
                self._process.stdin.flush()
            except (BrokenPipeError, ValueError):  # it ended, or is being ended
                return

    def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            self.last_seen = time.monotonic()
            if line := raw.decode("utf-8", "replace").rstrip():
                self._lines.put(line)
        self._lines.put("")

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            self._said.append(raw.decode("utf-8", "replace").rstrip())
