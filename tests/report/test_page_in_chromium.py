"""The page in a real browser: an axe-core scan, what a pointer, a key and a finger are told, what can be saved."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from report_example import example

from edgekit.report import html
from edgekit.report import json as report_json

pytestmark = pytest.mark.browser
SIZES = {"desk": (1440, 900), "phone": (390, 844)}


def require(have: object, reason: str) -> None:
    """Skip where it is missing; in CI that is a failure."""
    if not have:
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(html.render(example()), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    require(executable, "no browser is installed; on Debian: apt-get install chromium")
    require(find_spec("axe_playwright_python"), "axe-core is not installed: pip install --editable '.[dev]'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def opened(browser: Any, address: str, **settings: Any) -> Iterator[Any]:
    """Open the page; fail where it says anything on the console or asks the network for anything."""
    context = browser.new_context(**settings)
    context.set_default_timeout(120_000)  # other tests run beside it
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert not said
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [address]


def violations(page: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{rule['id']} at {node['target']}: {node['html'][:160]}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("desk", "dark"), ("phone", "light")])
def test_an_accessibility_scan_finds_nothing(browser: Any, address: str, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    with opened(browser, address, viewport={"width": width, "height": height}, color_scheme=scheme) as page:
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing hangs over


def test_the_scan_can_fail(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.evaluate("document.documentElement.removeAttribute('lang'); document.querySelector('main').remove()")
        assert any("html-has-lang" in found for found in violations(page))


def test_every_picture_has_marks(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        count = "svg => [...svg.querySelectorAll('path, rect, circle')].filter(m => m.getBBox().width > 0).length"
        drawn = [picture.evaluate(count) for picture in page.query_selector_all("svg.chart")]
    assert len(drawn) >= 10
    assert min(drawn) >= 2


def test_marks_say_what_they_are_to_pointer_key_and_finger(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.hover("#target-1 .mark.dropped .touch")
        tip = page.inner_text(".tip")
        assert tip.startswith("int8: dropped, p50 17.7")
        assert "1.39" in tip
        assert "points" in tip
        page.keyboard.press("Escape")
        assert page.is_hidden(".tip")
        page.mouse.move(0, 0)  # a page that scrolls under a pointer moves marks under it
        page.focus("#target-0 .mark.baseline")
        assert page.inner_text(".tip").startswith("float32: baseline")
        page.keyboard.press("Tab")
        assert page.inner_text(".tip").startswith("pruned-float32: kept")
    with opened(browser, address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as page:
        page.tap("#target-0 .mark.baseline .touch")
        assert page.inner_text(".tip").startswith("float32: baseline")
        box = page.locator(".tip").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390


def test_the_precision_map_is_walked_with_the_arrow_keys(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        page.focus("#target-0 .map")
        for key, name in (("ArrowRight", "conv0"), ("ArrowRight", "conv1"), ("ArrowLeft", "conv0"), ("End", "conv4")):
            page.keyboard.press(key)
            assert f"_{name}, CONV_2D: " in page.inner_text(".tip")
        assert "float32, output decoding, 5.00" in page.inner_text(".tip")
        page.hover("#target-0 .map i >> nth=3")
        assert page.inner_text(".tip").startswith("block0_conv3, CONV_2D: int8")


def test_pictures_are_shown(browser: Any, address: str) -> None:
    with opened(browser, address) as page:
        sides = page.query_selector_all("#target-0 svg.sample")
        assert len(sides) == 4
        for side in sides:  # the image itself, or its second use
            box = side.query_selector("image, use").bounding_box()
            assert box["width"] == pytest.approx(side.bounding_box()["width"], abs=1)


def test_the_report_can_be_saved_from_the_page(browser: Any, address: str, tmp_path: Path) -> None:
    with opened(browser, address) as page:
        with page.expect_download() as saving:
            page.click("text=Save report.json")
        saving.value.save_as(tmp_path / "report.json")
        assert saving.value.suggested_filename == "report.json"
        with page.expect_download() as saving:
            page.click("text=latency.csv")
        saving.value.save_as(tmp_path / "calls.csv")
    assert report_json.load(tmp_path / "report.json") == example()
    lines = (tmp_path / "calls.csv").read_text().splitlines()
    assert lines[0] == "target,variant,place,call,ns"
    timed = [row.latency for target in example().targets for row in target.variants if row.latency]
    assert len(lines) == 1 + sum(len(latency.samples_ns) for latency in timed)


def test_without_scripts_nothing_is_missing(browser: Any, address: str, tmp_path: Path) -> None:
    with opened(browser, address, java_script_enabled=False) as page:
        assert page.is_visible("#target-0 .mark.shipped")
        assert page.is_hidden("text=latency.csv")
        with page.expect_download() as saving:
            page.click("text=Save report.json")
        saving.value.save_as(tmp_path / "report.json.gz")
    text = gzip.decompress((tmp_path / "report.json.gz").read_bytes()).decode()
    assert json.loads(text) == json.loads(report_json.render(example()))


def test_no_other_script_runs(browser: Any, tmp_path: Path) -> None:
    text = html.render(example()).replace("</main>", "<script>document.title = 'changed'</script></main>")
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    title = page.title()
    page.close()
    assert title == "Digits detector: edgekit report"
