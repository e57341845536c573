"""Photograph a build's report for the README: python docs/picture.py BUILD/report.html docs/report.png

Needs Chromium or Chrome, and Playwright of the extra `dev`.
"""

from __future__ import annotations

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1440, 1370  # down to the charts of the first target
LARGEST_BYTES = 250_000


def photograph(report: Path, picture: Path) -> None:
    """Write the top of a report's page, in light colours; exit where it is too large for a README."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("No browser is installed; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        content = page.screenshot()
        opened.close()
    flat = Image.open(BytesIO(content)).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    flat.save(picture, optimize=True)
    size = picture.stat().st_size
    print(f"{picture}: {WIDTH} x {HEIGHT}, {size / 1000:.0f} kB")
    if size > LARGEST_BYTES:
        sys.exit(f"{picture} is larger than {LARGEST_BYTES / 1000:.0f} kB.")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(str(__doc__))
    photograph(Path(sys.argv[1]), Path(sys.argv[2]))
