"""`edgekit report --serve`: what is listed and compared, over real HTTP and in a real browser, and what is refused."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from project import HANGS_S, command, edgekit, environment
from report_example import example

from edgekit.errors import RecipeError
from edgekit.gate.compare import compare
from edgekit.report import html
from edgekit.report import json as report_json
from edgekit.report.comparison import cell, present
from edgekit.report.schema import Report
from edgekit.runs.find import LEVELS, Runs
from edgekit.runs.server import PORT, RunsServer

HOSTILE = "<script>alert('x')</script>&amp;"


def written(folder: Path, day: int, **changes: object) -> Report:
    """Write a build's reports to ``folder``."""
    report = example().model_copy(update={"created": f"2026-11-{day:02}T10:00:00+00:00", **changes})
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(report_json.render(report))
    (folder / "report.html").write_text(html.render(report))
    return report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three builds, one of them deeper, a report of something else, and what is no build."""
    root = tmp_path / "builds"
    written(root / "main", 1)
    faster = example().targets[0]
    rows = [row.model_copy(update={"speedup": (row.speedup or 1.0) * 2}) for row in faster.variants]
    written(root / "pull/7", 3, targets=[faster.model_copy(update={"variants": rows}), *example().targets[1:]])
    written(root / "pull/8", 2)
    (root / "other").mkdir()
    (root / "other/report.json").write_text('{"tests": 3}')
    for hidden in (".git/x", "main/store/y", "main/artifacts/z", "/".join("abcde"[: LEVELS + 1])):
        written(root / hidden, 9)
    (root / "linked").symlink_to(root / "main")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "main/model.keras").write_text("secret")
    return root


@pytest.fixture
def server(folder: Path) -> Iterator[RunsServer]:
    with RunsServer(Runs(folder), 0) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield running
        running.shutdown()


def ask(server: RunsServer, path: str, method: str = "GET", host: str = "") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=HANGS_S)
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def ids(server: RunsServer) -> dict[str, str]:
    """Return the id of every listed build, by its place, in the order of the list."""
    _, page = ask(server, "/")
    return {place: id for id, place in re.findall(r'value="([0-9a-f]+)" aria-label="Compare ([^"]+)"', page)}


def test_the_list_has_every_build_the_newest_first_with_verdicts_and_numbers(server: RunsServer) -> None:
    assert list(ids(server)) == ["pull/7", "pull/8", "main"]
    status, page = ask(server, "/")
    assert status == 200
    text = unescape(re.sub(r"<[^>]+>", " ", page))
    for target in example().targets:
        assert text.count(target.target) >= 3
    assert "2026-11-03 10:00 UTC" in text
    for words in ("Passed", "Budget missed", "Speed-up", "Smaller by", "Accuracy, points"):
        assert words in text
    assert "1 report.json here that this edgekit does not read" in text
    assert "no schema_version" in text


def test_the_comparison_is_that_of_edgekit_compare_against_the_oldest(server: RunsServer, folder: Path) -> None:
    id = ids(server)
    status, page = ask(server, f"/compare?run={id['pull/7']}&run={id['main']}")
    assert status == 200
    expected = compare({name: report_json.load(folder / name) for name in ("main", "pull/7")})
    text = unescape(page)
    assert "Changes are against main" in text
    for row in expected.rows:
        for name in present(expected.rows):
            assert cell(row, name) in text
    assert any("+1" in cell(row, "speedup") for row in expected.rows)  # twice as fast shows
    other = unescape(ask(server, f"/compare?run={id['pull/7']}&run={id['main']}&against={id['pull/7']}")[1])
    assert "Changes are against pull/7" in other


@pytest.mark.parametrize(("query", "status"), [
    ("", 400), ("run=MAIN", 400), ("run=MAIN&run=MAIN", 400), ("run=MAIN&run=0123456789ab", 404),
    ("run=MAIN&run=../x", 404),
])  # fmt: skip
def test_a_choice_that_cannot_be_compared_is_explained(server: RunsServer, query: str, status: int) -> None:
    found, page = ask(server, f"/compare?{query.replace('MAIN', ids(server)['main'])}")
    assert found == status
    assert "All builds" in page


def test_a_build_has_its_own_report_as_it_was_written(server: RunsServer, folder: Path) -> None:
    id = ids(server)["pull/7"]
    for name in ("report.html", "report.json"):
        status, text = ask(server, f"/run/{id}/{name}")
        assert (status, text) == (200, (folder / "pull/7" / name).read_text())


@pytest.mark.parametrize("path", [
    "/../secret.txt", "//etc/passwd", "/etc/passwd", "/run/ID/../../../secret.txt", "/run/ID/model.keras",
    "/run/ID/..%2f..%2fsecret.txt", "/run/%2e%2e/report.json", "/run/main/report.json", "/run/ID", "/run/ID/",
    "/run/ID/report.html/x", "/run/ID/report.md", "/main/report.json", "/favicon.ico", "/run/ID/.publishing",
    "/run/ID/report.html%00", "/[",
])  # fmt: skip
def test_nothing_else_is_served(server: RunsServer, path: str) -> None:
    status, page = ask(server, path.replace("ID", ids(server)["main"]))
    assert status == 404
    assert "secret" not in page


def test_a_link_in_place_of_a_report_is_not_followed(server: RunsServer, folder: Path) -> None:
    id = ids(server)["main"]
    (folder / "main/report.html").unlink()
    (folder / "main/report.html").symlink_to(folder.parent / "secret.txt")
    assert ask(server, f"/run/{id}/report.html")[0] == 404


def test_another_sites_name_and_other_methods_are_refused(server: RunsServer) -> None:
    assert ask(server, "/", host="evil.example:80")[0] == 403
    assert ask(server, "http://evil.example/")[0] == 403
    assert ask(server, "/", host=f"localhost:{server.server_port}")[0] == 200
    assert ask(server, "/", method="POST")[0] == 501
    assert ask(server, "/", method="HEAD") == (200, "")
    assert server.server_address[0] == "127.0.0.1"


def test_a_reload_shows_what_was_built_changed_and_removed(server: RunsServer, folder: Path) -> None:
    assert "new" not in ids(server)
    written(folder / "new", 20)
    shutil.rmtree(folder / "pull")
    assert list(ids(server)) == ["new", "main"]
    shutil.rmtree(folder / "new")
    written(folder / "new", 1, name="again", targets=[])
    assert "no target has a verdict" in ask(server, "/")[1]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    targets = [target.model_copy(update={"target": HOSTILE, "shipped": HOSTILE}) for target in example().targets]
    source = example().source.model_copy(update={"path": HOSTILE})
    for number in (1, 2):
        written(tmp_path / f"<script>{number}", number, targets=targets, source=source)
    with RunsServer(Runs(tmp_path), 0) as server:
        pages = [server.answer("/")[1].decode()]
        chosen = "&".join(f"run={run.id}" for run in server.runs.all())
        pages.append(server.answer(f"/compare?{chosen}")[1].decode())
    for page in pages:
        assert "<script>1" not in page
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


def test_a_folder_without_builds_says_how_to_get_one(tmp_path: Path) -> None:
    with RunsServer(Runs(tmp_path), 0) as server:
        assert b"edgekit build -o FOLDER" in server.answer("/")[1]
    with pytest.raises(RecipeError, match="is no folder"):
        Runs(tmp_path / "nowhere")


def test_a_taken_port_is_an_error_where_it_was_asked_for(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RecipeError, match="Cannot listen"):
            RunsServer(Runs(tmp_path), taken.getsockname()[1])
    with RunsServer(Runs(tmp_path)) as first, RunsServer(Runs(tmp_path)) as second:
        assert first.server_port != second.server_port
        assert second.server_port != PORT


def test_the_command_says_where_and_ctrl_c_ends_it_in_order(folder: Path) -> None:
    words = command("report", "--serve", folder, "--port", "0")
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        port = int(url.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANGS_S)
        connection.request("GET", "/")
        assert b"pull/7" in connection.getresponse().read()  # and the connection stays open
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=HANGS_S) == 0
        connection.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert "4 builds in" in said
    assert "Traceback" not in said
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0


def test_a_report_without_a_run_is_wrong_usage() -> None:
    done = edgekit("report")
    assert done.code == 2
    assert "name a build folder" in done.err


def violations(page: Any) -> list[str]:
    """Return what axe-core's accessibility scan finds."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html'][:160]}" for rule in found for node in rule["nodes"]]


@pytest.mark.browser
def test_in_a_real_browser_builds_are_chosen_and_compared(server: RunsServer) -> None:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if not executable or not find_spec("axe_playwright_python"):
        assert not os.environ.get("CI"), "Chromium or axe-core is missing"
        pytest.skip("no browser is installed; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        said: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server.url)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert violations(page) == []
        page.get_by_label("Compare pull/7").check()
        page.get_by_text("main", exact=True).click()  # its name is the box's label
        page.get_by_role("button", name="Compare the chosen builds").click()
        page.wait_for_url("**/compare?*")
        assert page.get_by_role("heading", name="2 builds compared").is_visible()
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("link", name="pull/7").click()
        page.wait_for_url("**/report.html")
        assert page.get_by_role("heading", level=1).inner_text() == "Digits detector"
        browser.close()
    assert not said
    assert {url.partition("?")[0].replace(server.url, "/") for url in asked} == {
        "/", "/compare", f"/run/{ids(server)['pull/7']}/report.html",
    }  # fmt: skip
