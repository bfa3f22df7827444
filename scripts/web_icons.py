"""The icons of the web chat as pictures, out of the one that is drawn: `python -m scripts.web_icons`.

Needs Chromium and, from the tools for tests, Playwright and Pillow."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from scripts.processes import program

FOLDER = Path(__file__).resolve().parents[1] / "mobile_client_demo" / "web" / "icons"
GROUND = "#14394e"
WANTED = {
    # name: pixels, what part of the side the drawing takes, how round the corners of the ground are
    "aldis-192.png": (192, 0.66, "22%"),
    "aldis-512.png": (512, 0.66, "22%"),
    # systems cut a circle out of it, of four fifths of the side
    "aldis-maskable-512.png": (512, 0.58, "0"),
    "apple-touch.png": (180, 0.66, "0"),
}


def main() -> int:
    drawn = (FOLDER / "aldis.svg").read_text("utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        for name, (pixels, part, corner) in WANTED.items():
            page.set_viewport_size({"width": pixels, "height": pixels})
            side = round(pixels * part)
            page.set_content(
                f"<style>html{{background:transparent}}body{{margin:0;height:100vh;display:grid;place-items:center;"
                f"background:none}}div{{position:fixed;inset:0;background:{GROUND};border-radius:{corner}}}"
                f"svg{{width:{side}px;height:{side}px;display:block;position:relative}}</style><div></div>{drawn}"
            )
            shot = page.screenshot(omit_background=True)
            # few colours: a third of the bytes, and nobody sees it
            picture = Image.open(io.BytesIO(shot)).quantize(128, method=Image.Quantize.FASTOCTREE)
            picture.save(FOLDER / name, optimize=True)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
