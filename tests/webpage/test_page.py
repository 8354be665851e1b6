"""The page in a real browser: every action of a visitor, and nothing loaded from elsewhere."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lexiseg.cli.main import main
from lexiseg.clip.loading import TOY_CLIP
from lexiseg.inference.pipeline import Pipeline
from lexiseg.webpage.desk import Desk
from lexiseg.webpage.page import served
from lexiseg.webpage.readers import Readers

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000
"""Milliseconds: the machine may be busy."""


def test_without_gradio_one_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app", "--clip", "toy"]) == 2
    told = capsys.readouterr().err
    assert told.strip().splitlines()[-1] == (
        "lexiseg: lexiseg app needs Gradio, which is not installed: pip install 'lexiseg[app]'"
    )


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("gradio")
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(browser, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEXISEG_CACHE", str(tmp_path_factory.mktemp("cache")))
        readers = Readers(Pipeline.load(clip=TOY_CLIP, method="naclip", device="cpu"))
        with served(Desk(readers, device="cpu"), host="127.0.0.1", port=0) as place:
            yield place


@pytest.fixture
def visit(browser, address):
    """Open the page at a size; every request has to stay on the address."""
    contexts, outside = [], []

    def open_page(width=1280, height=900, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: outside.append(request.url))
        page.goto(address)
        page.wait_for_selector("#words textarea")
        return page

    yield open_page
    for context in contexts:
        context.close()
    elsewhere = [url for url in outside if not url.startswith((address, "data:", "blob:"))]
    assert elsewhere == []


@pytest.fixture
def photograph(tmp_path):
    """Red above, green below, 180x240; the toy CLIP has read both words."""
    pixels = np.zeros((180, 240, 3), dtype=np.uint8)
    pixels[:90, :, 0] = pixels[90:, :, 1] = 200
    path = tmp_path / "two halves.png"
    Image.fromarray(pixels).save(path)
    return path


def upload(page, path: Path):
    """Without words the photograph alone is shown in the overlay's place."""
    page.locator("#photo input[type=file]").set_input_files(path)


def shown(page):
    page.locator("#overlay img").first.wait_for()


def ask(page, words: str):
    page.locator("#words textarea").fill(words)
    page.locator("#words textarea").press("Enter")


def answered(page, name: str, side="overlay"):
    page.locator(f"#{side}-legend td", has_text=re.compile(f"^{re.escape(name)}$")).first.wait_for()


def download(page, kind: str) -> tuple[str, bytes]:
    button = page.locator(f"#get-{kind}")
    page.wait_for_function("id => !document.getElementById(id).hasAttribute('disabled')", arg=f"get-{kind}")
    with page.expect_download() as started:
        button.click()
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


@pytest.mark.slow
def test_upload_words_overlay_other_words_click_map_download(visit, photograph):
    page = visit()
    assert "The CLIP is toy" in page.locator(".ls-about").inner_text()
    upload(page, photograph)
    shown(page)
    ask(page, "red square")
    answered(page, "red square")
    assert re.search(r"naclip: encode \d+ ms · words \d+ ms", page.locator("#times").inner_text())

    ask(page, "red square, green square; green circle")
    page.locator("#times", has_text="encoded before").wait_for()
    assert page.locator("#notice p").count() == 0

    picture = page.locator("#overlay img").first
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.9})
    page.locator("#point .ls-points").wait_for()
    told = page.locator("#point").inner_text()
    column, row = map(int, re.search(r"pixel (\d+), (\d+)", told).groups())
    assert abs(column - 120) <= 3
    assert abs(row - 162) <= 3
    scores = [float(text) for text in page.locator(".ls-scores td:last-child").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 2
    assert 0 < sum(scores) < 1.002  # the rest is of the synonym that scores less

    page.locator("#score-map button").first.click()
    page.locator("#word input").click()
    page.get_by_role("option", name="green square").click()
    page.locator("#map", has_text="green square, naclip: dark is 0, light is").wait_for()
    page.locator("#map img").wait_for()

    name, content = download(page, "coco")
    coco = json.loads(content)
    assert (coco["images"][0]["height"], coco["images"][0]["width"]) == (180, 240)
    assert name.endswith("_coco.json")
    name, content = download(page, "labels")
    assert name.endswith("_labels.png")
    assert content.startswith(b"\x89PNG")
    assert json.loads(download(page, "json")[1])["height"] == 180
    assert download(page, "overlay")[1].startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_pasted_picture_answers_too(visit):
    page = visit()
    page.evaluate(
        """async () => {
            const canvas = Object.assign(document.createElement("canvas"), {width: 96, height: 64});
            canvas.getContext("2d").fillRect(0, 0, 96, 64);
            const blob = await new Promise(resolve => canvas.toBlob(resolve, "image/png"));
            await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
        }"""
    )
    page.get_by_label("clipboard-value-button").or_(
        page.locator("#photo button[aria-label*='lipboard']")
    ).first.click()
    page.locator("#photo").get_by_text(re.compile("paste", re.I)).or_(
        page.locator("#photo img")
    ).first.click()
    page.locator("#photo img").wait_for()
    ask(page, "sand, water")
    page.locator("#overlay-legend table").wait_for()


@pytest.mark.slow
def test_mistakes_are_sentences_and_the_page_goes_on(visit, photograph, tmp_path):
    page = visit()
    broken = tmp_path / "broken.png"
    broken.write_bytes(photograph.read_bytes()[:60])
    upload(page, broken)
    page.locator("#notice", has_text="damaged or cut short").wait_for()
    page.locator("#photo button[aria-label='Remove Image'], #photo button[aria-label='Clear']").first.click()
    upload(page, photograph)
    ask(page, "red,,green")
    page.locator("#notice", has_text="a class name is empty").wait_for()
    ask(page, "red, <img src=x onerror=alert(1)>")
    page.locator("#notice", has_text="has never read <img src=x onerror=alert(1)>").wait_for()
    assert page.locator("#overlay-legend img, #notice img").count() == 0
    page.locator("#method input").click()
    page.get_by_role("option", name="lavg").click()
    page.locator("#notice", has_text="lavg reads a photograph inside masks; choose some").wait_for()
    assert "Traceback" not in page.content()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_an_example_by_two_methods_fits_a_telephone_and_the_dark(visit, width, scheme):
    page = visit(width, 844, scheme)
    page.locator("#examples .gallery-item").nth(3).click()
    page.locator("#overlay-legend table").wait_for()
    page.locator("#other input").click()
    page.get_by_role("option", name="clearclip", exact=True).click()
    page.locator("#beside-legend table").wait_for()
    assert "clearclip: encode" in page.locator("#times").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [page.locator(f"#{name} img").first.bounding_box() for name in ("overlay", "beside")]
    beside = boxes[1]["y"] < boxes[0]["y"] + boxes[0]["height"]
    assert beside == (width > 1000)
    before = page.locator("#overlay img").first.get_attribute("src")
    page.locator("#opacity input[type=number]").fill("1")
    page.locator("#opacity input[type=number]").blur()
    page.wait_for_function("src => document.querySelector('#overlay img').src !== src", arg=before)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", ground)[:3])) < 80) == (scheme == "dark")
