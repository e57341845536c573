"""Serve the page and exchange commands and replies with it, behind a token that only this run's page knows.

COOP and COEP isolate the page: without them there are no threads, and the clock has a step of 100 us instead of 5
(https://developer.mozilla.org/docs/Web/API/Window/crossOriginIsolated). Browsers honour them on https and localhost.
"""

from __future__ import annotations

import json
import secrets
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from socketserver import TCPServer
from threading import Event, Lock, Thread
from typing import Any

from edgekit.errors import DependencyError, DeviceError, DroppedError
from edgekit.runtimes.web.assets import Assets

_HERE = Path(__file__).parent
_OWN = {"": "page.html"} | {
    name: name for name in ("page.js", "beat.js", "frame.html", "frame.js", "litert.js", "ort.js")
}
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript",
          ".wasm": "application/wasm"}  # fmt: skip
_HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # 'unsafe-eval': the runtimes' bindings are generated when they start. Nothing is fetched from elsewhere.
    "Content-Security-Policy": "default-src 'self' data:; style-src 'unsafe-inline'; worker-src 'self' blob:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_HOLD_S = 10.0  # a command is waited for this long before the page is told to ask again
_LARGEST_BODY = 1 << 30


class PageServer:
    """One page's other end. ``call`` is for one thread at a time; leaving the context tells the page to stop."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, token: str = "") -> None:
        self.token = token or secrets.token_hex(8)
        self.assets = Assets()
        self.last_seen = 0.0
        self.ended: DeviceError | DependencyError | None = None
        self._files: dict[str, bytes] = {}
        self._page = ""
        self._commands: Queue[dict[str, Any]] = Queue()
        self._replies: Queue[dict[str, Any]] = Queue()
        self._connected = Event()
        self._closed = Event()
        self._lock = Lock()
        self._number = 0
        self._given: dict[str, Any] | None = None  # the command that the page has not replied to
        self._server = _Server((host, port), self)
        self.port = int(self._server.server_address[1])
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    @property
    def path(self) -> str:
        """The path of the page's address."""
        return f"/{self.token}/"

    def wait_for_page(self, seconds: float) -> bool:
        """Wait for a page to connect; False when none did in time, or when ``end`` came first."""
        return self._connected.wait(seconds) and self.ended is None

    def end(self, error: DeviceError | DependencyError) -> None:
        """Have the call that waits, and every later one, raise this error; the first one stays."""
        self.ended = self.ended or error
        self._connected.set()

    def send(self, name: str, **given: Any) -> int:
        """Give the page a command; return the number that its reply will carry."""
        self._number += 1
        self._commands.put({"id": self._number, "name": name, **given})
        return self._number

    def reply(self, number: int, seconds: float) -> dict[str, Any] | None:
        """Return the reply to a command, or None when it did not come in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                reply = self._replies.get(timeout=left)
            except Empty:
                return None
            if reply.get("id") == number:
                return reply
        return None

    def add_file(self, content: bytes) -> str:
        """Serve some bytes; return their address for the page."""
        name = secrets.token_hex(8)
        self._files[name] = content
        return f"file/{name}"

    def drop_file(self, address: str) -> None:
        self._files.pop(address.removeprefix("file/"), None)

    def close(self) -> None:
        """Tell the page that all is done, and stop serving."""
        self._closed.set()
        self._commands.put({})
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the handlers call, each in a thread of its own.

    def file(self, name: str) -> tuple[bytes, str] | None:
        """Return the content and type of a file below the token."""
        if name in _OWN:
            path = _HERE / _OWN[name]
            return path.read_bytes(), _TYPES[path.suffix]
        if name.startswith("assets/"):
            content = self.assets.read(name.removeprefix("assets/"))
            return (content, _TYPES[Path(name).suffix]) if content is not None else None
        held = self._files.get(name.removeprefix("file/")) if name.startswith("file/") else None
        return (held, "application/octet-stream") if held is not None else None

    def exchange(self, page: str, reply: dict[str, Any] | None) -> tuple[HTTPStatus, dict[str, Any]]:
        """Take a page's reply and return its next command; the same one again if it did not arrive."""
        with self._lock:
            self._page = self._page or page
            if page != self._page:
                return HTTPStatus.CONFLICT, {}
            self.last_seen = time.monotonic()
            if reply is not None and self._given is not None and reply.get("id") == self._given["id"]:
                self._given = None
                self._replies.put(reply)
            if self._given is not None:
                return HTTPStatus.OK, self._given
        self._connected.set()
        try:
            command = self._commands.get(timeout=_HOLD_S)
        except Empty:
            return HTTPStatus.OK, {"name": "wait"}
        if self._closed.is_set():
            return HTTPStatus.GONE, {}
        self._given = command
        return HTTPStatus.OK, command

    def gone(self, page: str) -> bool:
        """Say whether the page that left is the one that measures."""
        return bool(page) and page == self._page and not self._closed.is_set()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], page: PageServer) -> None:
        self.page = page
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without HTTPServer's look-up of the host's name, which may take seconds


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self._name()
        try:
            found = self.server.page.file(name) if name is not None else None
        except DependencyError as error:
            self.server.page.end(error)
            found = None
        if found is None:
            self._answer(HTTPStatus.NOT_FOUND, b"", "text/plain")
        else:
            self._answer(HTTPStatus.OK, *found)

    def do_POST(self) -> None:
        body = self._body()
        name = self._name()
        status, answer = HTTPStatus.NO_CONTENT, b""
        page = self.server.page
        if body is None or name not in ("exchange", "beat", "gone"):
            status = HTTPStatus.NOT_FOUND
        elif name == "beat":
            page.last_seen = time.monotonic()
        elif name == "gone":
            if page.gone(body.decode("utf-8", "replace")):
                page.end(DroppedError("The page was closed or reloaded.", "Start again and leave it in front."))
        else:
            try:
                given = json.loads(body)
                status, command = page.exchange(str(given["page"]), given["reply"])
                answer = json.dumps(command).encode()
            except (ValueError, KeyError, TypeError):
                status = HTTPStatus.BAD_REQUEST
        self._answer(status, answer, "application/json")

    def _name(self) -> str | None:
        """Return what the address names below the token, or None without the right token."""
        _, _, rest = self.path.partition("/")
        token, slash, name = rest.partition("?")[0].partition("/")
        right = slash and secrets.compare_digest(token.encode(), self.server.page.token.encode())
        return name if right else None

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _LARGEST_BODY:
            self.close_connection = True
            return None
        return self.rfile.read(int(length))

    def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        try:
            self.send_response(status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:
            self.close_connection = True  # the page is gone; who waits for its reply notices

    def log_message(self, format: str, *args: Any) -> None:
        pass
