"""The pictures of docs/app.md: the page of ``lexiseg app`` in a real browser, wide, on a telephone and in the dark.

python scripts/photograph_page.py docs/images          needs lexiseg[app], playwright and the system's Chromium
"""

import argparse
import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from lexiseg.clip.loading import TOY_CLIP
from lexiseg.inference.pipeline import Pipeline
from lexiseg.lazy import locate
from lexiseg.storage import write_png
from lexiseg.webpage.desk import Desk
from lexiseg.webpage.page import served
from lexiseg.webpage.readers import Readers

_VIEWS = {"app": (1280, 900, "light"), "app_phone": (390, 844, "light"), "app_dark": (1280, 900, "dark")}
_COLOURS = 256
"""Of a palette, which keeps the files small."""


def main() -> None:
    """Take an example in every view, click into it, and keep the whole page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the PNGs go")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser")
    args = parser.parse_args()
    desk = Desk(Readers(Pipeline.load(clip=TOY_CLIP, method="naclip", device="cpu")))
    sync_playwright = locate("playwright.sync_api:sync_playwright")
    with served(desk, host="127.0.0.1", port=0) as address, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=args.chromium, args=["--no-sandbox", "--disable-gpu"])
        for number, (name, (width, height, scheme)) in enumerate(_VIEWS.items()):
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(address)
            content = _visit(page, example=number, beside=scheme == "dark")
            with Image.open(io.BytesIO(content)) as shot:
                write_png(_small(shot.convert("RGB")), args.folder / f"{name}.png")
            page.close()
        browser.close()


def _small(shot: Image.Image) -> Image.Image:
    """With a palette that covers rare colours too, such as a legend's, and without dots in flat surfaces."""
    return shot.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)


def _visit(page: Any, *, example: int, beside: bool) -> bytes:
    page.locator("#examples .gallery-item").nth((3, 2, 0)[example]).click()
    page.locator("#overlay-legend table").wait_for()
    if beside:
        page.locator("#other input").click()
        page.get_by_role("option", name="clearclip", exact=True).click()
        page.locator("#beside-legend table").wait_for()
    picture = page.locator("#overlay img").first
    box = picture.bounding_box()
    picture.click(position={"x": 0.75 * box["width"], "y": 0.6 * box["height"]})
    page.locator("#point .ls-points").wait_for()
    page.wait_for_function("() => !document.getElementById('get-coco').hasAttribute('disabled')")
    page.mouse.move(3, 3)
    page.wait_for_timeout(1000)  # what fades in has done so
    return bytes(page.screenshot(full_page=True))


if __name__ == "__main__":
    main()
