"""Make the pictures of the README: `.venv/bin/python docs/pictures.py`.

They show the newest post of `flask demo` in Chromium's light and dark scheme. They look best where
the style sheet's Cambria has its stand-in (on Debian: apt-get install fonts-crosextra-caladea).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from werkzeug.serving import make_server

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))  # Python looks for modules beside this file only

from app import create_app
from core.database import db

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]  # root has no sandbox
SIZE = {"width": 880, "height": 900}  # pixels; as wide as a README on GitHub
SCALE = 2  # pixels of the picture for one of the page: sharp on every screen
COLOURS = 256  # a third of the bytes of all of them, and no difference to the eye
REFINEMENTS = 3  # of these colours; without them the sun is gone


def make_pictures() -> None:
    """Write page-light.png and page-dark.png beside this file."""
    with serving_demo() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        for scheme in ("light", "dark"):
            picture = Image.open(BytesIO(take_picture(browser, url, scheme))).convert("RGB")
            picture.quantize(COLOURS, kmeans=REFINEMENTS).save(
                FOLDER / f"page-{scheme}.png", optimize=True
            )
        browser.close()


@contextmanager
def serving_demo() -> Iterator[str]:
    """Serve a blog that `flask demo` has filled; its URL."""
    with TemporaryDirectory() as folder:
        # Named here, for the environment may name the database of a blog in use.
        app = create_app(folder, DATABASE_URL=f"sqlite:///{folder}/blog.db", EXTRAS="all")
        app.test_cli_runner().invoke(args=["demo"], catch_exceptions=False)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            with app.app_context():
                db.engine.dispose()


def take_picture(browser: Browser, url: str, scheme: str) -> bytes:
    """A PNG of the newest post, from the top of its page to the first heading in its text."""
    page = browser.new_page(viewport=SIZE, color_scheme=scheme, device_scale_factor=SCALE)
    page.goto(url)
    page.locator("h2 a").first.click()
    page.locator(".text img").evaluate("image => image.decode()")
    end = page.locator(".text h2").first.bounding_box()["y"]
    return page.screenshot(clip={"x": 0, "y": 0, "width": SIZE["width"], "height": end})


if __name__ == "__main__":
    make_pictures()
