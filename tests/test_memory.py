"""512 MB of memory are enough, whatever is sent."""

import io
import re
import threading
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError

import pytest
from conftest import PASSWORD
from PIL import Image
from test_pictures import SMALL, encoded
from test_server import free_port, running
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

pytestmark = pytest.mark.slow
MB = 1_000_000


class Visitor:
    """Somebody with a browser, at a server of this machine."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self.browser = urllib.request.build_opener(cookies)

    def send(self, path, **fields):
        page = self.browser.open(self.base + path).read().decode()
        fields["csrf_token"] = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page)[1]
        boundary, body = encode_multipart(fields)
        kind = {"Content-Type": f'multipart/form-data; boundary="{boundary}"'}
        request = urllib.request.Request(self.base + path, body, kind)
        try:
            with self.browser.open(request) as answer:
                return answer.read().decode()
        except HTTPError as error:
            with error:
                return error.read().decode()

    def sign_up(self, name):
        self.send("/signup", username=name, password=PASSWORD, confirm=PASSWORD)
        return self

    def add(self, contents):
        file = FileStorage(io.BytesIO(contents), "a.png")
        return self.send("/posts/new", title="T", body="B", action="picture", picture=file)


def memory(process, kind):
    """Bytes of memory of the server and its worker."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in (process.pid, *children)]
    return sum(int(re.search(rf"{kind}:\s+(\d+)", text)[1]) for text in texts) * 1024


@pytest.fixture(scope="module")
def pictures():
    """The pictures that take the most memory, of each kind."""
    noise = Image.effect_noise((2000, 2000), 90).convert("RGB")
    return [
        encoded(Image.new("RGBA", (5000, 5000)), "PNG"),
        encoded(noise.resize((8160, 6120)), "JPEG", progressive=True, quality=60),
        encoded(noise.resize((3500, 3500)), "WebP", quality=50, method=0),
        encoded(noise.resize((5000, 5000)).convert("P"), "GIF"),
        encoded(noise.resize((3500, 3500)), "AVIF", quality=50, speed=10),
    ]


def test_large_pictures_and_many_sign_ups_fit_into_512_megabytes(tmp_path, pictures):
    port = free_port()
    with running(tmp_path, port, "--port", str(port), BLOG_RATE_LIMITS="off") as process:
        olga = Visitor(port).sign_up("olga")
        assert "The picture is at the end of the text." in olga.add(SMALL)
        threads = [threading.Thread(target=olga.add, args=[contents]) for contents in pictures * 2]
        threads += [
            threading.Thread(target=Visitor(port).sign_up, args=[f"reader-{number}"])
            for number in range(8)
        ]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert memory(process, "VmHWM") < 500 * MB
        assert "The picture is at the end of the text." in olga.add(pictures[0])
        assert memory(process, "VmRSS") < 220 * MB
