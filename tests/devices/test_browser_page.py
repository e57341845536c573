"""The page's server and files, without a browser: what it gives to whom, and what it refuses."""

from __future__ import annotations

import http.client
import importlib.util
import io
import json
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machines import require

from edgekit.console.page import qr_code
from edgekit.devices.browser_address import Address, by_hand, parse
from edgekit.errors import DependencyError, DroppedError, RecipeError
from edgekit.runtimes.web import WEB_RUNTIMES, assets
from edgekit.runtimes.web.server import PageServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[PageServer]:
    require(importlib.util.find_spec("edgekit_web_assets"), "edgekit_web_assets is not installed: make web")
    with PageServer() as running:
        yield running


def _ask(server: PageServer, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path, body=body if isinstance(body, str | None) else json.dumps(body))
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


class TestServer:
    @pytest.mark.parametrize("path", ["/", "/page.js", "/wrong/", "/wrong/page.js"])
    def test_gives_nothing_without_the_token(self, server: PageServer, path: str) -> None:
        assert _ask(server, "GET", path)[0] == 404

    def test_isolates_every_file(self, server: PageServer) -> None:
        for name in ("", "page.js", "frame.html", "assets/litert/wasm/litert_wasm_internal.wasm"):
            status, headers, body = _ask(server, "GET", server.path + name)
            assert (status, headers["Cross-Origin-Opener-Policy"]) == (200, "same-origin")
            assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            assert headers["Cache-Control"] == "no-store"
            assert body
        assert headers["Content-Type"] == "application/wasm"

    @pytest.mark.parametrize("name", ["../assets.toml", "assets/../__init__.py", "assets/", "file/", "server.py"])
    def test_gives_no_other_file(self, server: PageServer, name: str) -> None:
        assert _ask(server, "GET", server.path + name)[0] == 404

    def test_carries_a_command_down_and_its_reply_up(self, server: PageServer) -> None:
        number = server.send("facts", detail=3)
        status, _, command = _ask(server, "POST", f"{server.path}exchange", {"page": "a", "reply": None})
        assert status == 200
        assert json.loads(command) == {"id": number, "name": "facts", "detail": 3}
        server.send("more")
        _ask(server, "POST", f"{server.path}exchange", {"page": "a", "reply": {"id": number, "cores": 4}})
        assert server.reply(number, 1.0) == {"id": number, "cores": 4}

    def test_gives_a_command_again_that_the_network_lost(self, server: PageServer) -> None:
        number = server.send("facts")
        for _ in range(2):
            _, _, command = _ask(server, "POST", f"{server.path}exchange", {"page": "a", "reply": None})
            assert json.loads(command)["id"] == number
        server.send("more")
        for _ in range(2):  # a reply that comes twice counts once
            _, _, command = _ask(
                server, "POST", f"{server.path}exchange", {"page": "a", "reply": {"id": number, "n": 1}}
            )
            assert json.loads(command)["name"] == "more"
        assert server.reply(number, 1.0) == {"id": number, "n": 1}
        assert server.reply(number, 0.05) is None

    def test_stops_waiting_for_a_page_that_cannot_come(self, server: PageServer) -> None:
        server.end(DroppedError("the browser ended"))
        assert not server.wait_for_page(60.0)

    def test_measures_with_one_page_alone(self, server: PageServer) -> None:
        server.send("facts")
        _ask(server, "POST", f"{server.path}exchange", {"page": "a", "reply": None})
        assert _ask(server, "POST", f"{server.path}exchange", {"page": "b", "reply": None})[0] == 409

    def test_notices_that_its_page_left(self, server: PageServer) -> None:
        server.send("facts")
        _ask(server, "POST", f"{server.path}exchange", {"page": "a", "reply": None})
        _ask(server, "POST", f"{server.path}gone", "b")
        assert server.ended is None
        _ask(server, "POST", f"{server.path}gone", "a")
        assert isinstance(server.ended, DroppedError)

    @pytest.mark.parametrize("body", ["no json", "[]", '{"page": "a"}'])
    def test_survives_a_bad_request(self, server: PageServer, body: str) -> None:
        assert _ask(server, "POST", f"{server.path}exchange", body)[0] == 400


class TestAssets:
    def test_a_changed_file_is_not_served(self, server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
        name = "litert/index.js"
        monkeypatch.setitem(server.assets._digests, name, "0" * 64)
        assert _ask(server, "GET", f"{server.path}assets/{name}")[0] == 404
        assert isinstance(server.ended, DependencyError)
        assert "make web" in server.ended.hint

    def test_a_missing_wheel_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(assets, "_MODULE", "edgekit_assets_that_nobody_installs")
        with pytest.raises(DependencyError, match="edgekit-web-assets") as caught:
            PageServer()
        assert "make web" in caught.value.hint
        assert caught.value.exit_code == 3

    def test_the_extra_asks_for_the_pinned_wheel(self) -> None:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert f"edgekit-web-assets=={assets.wheel_version()}" in extras["web"]

    def test_every_runtime_is_among_the_pins(self) -> None:
        assert all(assets.package_version(runtime.package) for runtime in WEB_RUNTIMES.values())


class TestBuild:
    """``web_assets/build.py`` takes nothing that is not pinned."""

    @pytest.fixture
    def build(self) -> Any:
        spec = importlib.util.spec_from_file_location("build_web_assets", ROOT / "web_assets/build.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @pytest.fixture
    def archive(self, tmp_path: Path) -> Path:
        path = tmp_path / "package.tgz"
        with tarfile.open(path, "w:gz") as packed:
            content = b"export {};"
            member = tarfile.TarInfo("package/dist/index.js")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
        return path

    def _pinned(self, sha256: str) -> dict[str, Any]:
        return {"name": "thing", "files": {"thing/index.js": ["dist/index.js", sha256]}}

    def test_unpacks_the_pinned_file(self, build: Any, archive: Path, tmp_path: Path) -> None:
        right = build.hashlib.sha256(b"export {};").hexdigest()
        build.unpack(archive, self._pinned(right), tmp_path / "out")
        assert (tmp_path / "out/thing/index.js").read_bytes() == b"export {};"

    def test_refuses_another_file(self, build: Any, archive: Path, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match="not the pinned file"):
            build.unpack(archive, self._pinned("0" * 64), tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("browser", Address("wasm")),
            ("browser:webgpu", Address("webgpu")),
            ("browser:wasm@10.0.0.1:90/abc", Address("wasm", "10.0.0.1", 90, "abc")),
        ],
    )
    def test_is_read(self, text: str, wanted: Address) -> None:
        assert parse(text) == wanted
        assert parse(wanted.device) == wanted

    @pytest.mark.parametrize("text", ["browser:webgl", "browser:", "browsers", "browser@", "browser:wasm@host:port"])
    def test_another_is_refused(self, text: str) -> None:
        with pytest.raises(RecipeError, match="no browser"):
            parse(text)

    def test_a_page_opened_by_hand_needs_the_command_that_shows_its_address(self) -> None:
        with pytest.raises(RecipeError, match="new address in each run") as caught:
            parse("browser@0.0.0.0:8765")
        assert "--serve" in caught.value.hint

    def test_the_token_is_new_for_each_run_and_not_in_the_name(self) -> None:
        one, other = by_hand("browser", "127.0.0.1"), by_hand("browser", "127.0.0.1")
        assert one.token != other.token
        assert one.token not in one.name
        assert one.url == f"http://127.0.0.1:8765/{one.token}/"

    def test_listening_nowhere_is_refused(self) -> None:
        with pytest.raises(RecipeError, match="no address"):
            by_hand("browser", "host:port")

    def test_a_page_for_the_network_is_named_by_its_address(self) -> None:
        assert "0.0.0.0" not in by_hand("browser:webgpu", "0.0.0.0:90").url

    def test_the_code_for_a_phone_fits_a_terminal(self) -> None:
        require(importlib.util.find_spec("segno"), "segno is not installed: make web")
        lines = qr_code(by_hand("browser", "0.0.0.0:8765").url).splitlines()
        assert 15 < len(lines) < 24
        assert max(map(len, lines)) < 80
