"""Serve the builds of a folder to this machine's own browser: a list, a comparison, and each build's own report.

Addresses hold ids and no paths, so nothing but what was found can be asked for. A page of another site that has its
name point here is refused by the Host header; nothing that is served may fetch, or send anything anywhere.
"""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlencode

from edgekit.errors import RecipeError
from edgekit.gate.compare import compare
from edgekit.report import comparison_page, runs_page
from edgekit.report.html import page
from edgekit.report.markup import tag
from edgekit.runs.find import REPORT, Run, Runs

LOOPBACK = "127.0.0.1"
PORT = 8787
_HTML = "text/html; charset=utf-8"
_FILES = {"report.html": _HTML, REPORT: "application/json", "report.md": "text/markdown; charset=utf-8"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data: blob:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_Answer = tuple[HTTPStatus, bytes, str]


class RunsServer(ThreadingHTTPServer):
    """Answers on loopback only. ``port`` 0 is any free one; None is the usual one, or any free one if it is taken.

    Raises RecipeError where a port that was asked for is taken.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, runs: Runs, port: int | None = None) -> None:
        self.runs = runs
        try:
            super().__init__((LOOPBACK, PORT if port is None else port), _Handler)
        except OSError as error:
            if port is not None:
                message = f"Cannot listen on port {port}: {error.strerror or error}."
                raise RecipeError(message, "Choose another with --port, or leave it out.") from error
            super().__init__((LOOPBACK, 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}/"

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without HTTPServer's look-up of the host's name, which may take seconds
        self.server_port = int(self.server_address[1])

    def answer(self, address: str) -> _Answer:
        """Return what lies at an address."""
        path, _, query = address.partition("?")
        parts = path.strip("/").split("/")
        if parts == [""]:
            return HTTPStatus.OK, self._list().encode(), _HTML
        if parts == ["compare"]:
            return self._compare(parse_qs(query))
        if len(parts) == 3 and parts[0] == "run" and parts[2] in _FILES:
            run = next((run for run in self.runs.all() if run.id == parts[1]), None)
            content = _content(run.folder / parts[2]) if run else None
            if content is not None:
                return HTTPStatus.OK, content, _FILES[parts[2]]
        return _said(HTTPStatus.NOT_FOUND, "There is no such page.")

    def _list(self) -> str:
        runs = self.runs.all()
        readable = [(run.id, run.name, run.report) for run in runs if run.report]
        others = [(run.name, run.problem) for run in runs if not run.report]
        return runs_page.render(str(self.runs.root), readable, others)

    def _compare(self, query: dict[str, list[str]]) -> _Answer:
        """Hold the chosen builds against one of them: the oldest, if none is named."""
        known = {run.id: run for run in self.runs.all() if run.report}
        wanted = list(dict.fromkeys(query.get("run", [])))
        if len(wanted) < 2:
            return _said(HTTPStatus.BAD_REQUEST, "Choose two builds or more.")
        if not set(wanted) <= known.keys():
            return _said(HTTPStatus.NOT_FOUND, "One of these builds is gone.")
        measure = query.get("against", [""])[0]
        chosen = sorted((known[id] for id in wanted), key=lambda run: (run.id != measure, _created(run)))
        result = compare({run.name: run.report for run in chosen if run.report})
        reports = {run.name: f"/run/{run.id}/report.html" for run in chosen}
        measures = {run.name: f"/compare?{urlencode({'run': wanted, 'against': run.id}, doseq=True)}" for run in chosen}
        return HTTPStatus.OK, comparison_page.render(result, reports, measures).encode(), _HTML


class _Handler(BaseHTTPRequestHandler):
    server: RunsServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0]
        ours = host in (LOOPBACK, "localhost")
        self._send(*(self.server.answer(self.path) if ours else _said(HTTPStatus.FORBIDDEN, "This is not that host.")))

    do_HEAD = do_GET

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        try:
            self.send_response(status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
        except ConnectionError:
            self.close_connection = True  # the browser went away

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _created(run: Run) -> str:
    return run.report.created if run.report else ""


def _content(path: Path) -> bytes | None:
    """Return a build's file; None where it is none, or a link to somewhere else."""
    try:
        return None if path.is_symlink() else path.read_bytes()
    except OSError:
        return None


def _said(status: HTTPStatus, words: str) -> _Answer:
    back = tag("p", tag("a", "All builds", href="/"))
    return status, page(f"{words[:-1]}: edgekit", tag("header", tag("h1", words), back)).encode(), _HTML
