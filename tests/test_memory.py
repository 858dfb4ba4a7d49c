"""512 MB of memory are enough, whatever is sent."""

import io
import re
import threading
from pathlib import Path

import pytest
from conftest import PASSWORD, Person
from PIL import Image
from test_pictures import SMALL, encoded
from test_server import Place, free_port, running
from werkzeug.datastructures import FileStorage

pytestmark = pytest.mark.slow
MB = 1_000_000


def add(person, picture):
    """Add the picture to a new post; the page that answers."""
    file = FileStorage(io.BytesIO(picture), "a.png")
    return person.send("/posts/new", title="T", body="B", action="picture", picture=file).text


def ask_for_account(place, number):
    """Sign up, or be told that too many do."""
    fields = {"password": PASSWORD, "confirm": PASSWORD}
    Person(place).send("/signup", username=f"reader-{number}", **fields)


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
        place = Place(f"http://127.0.0.1:{port}")
        olga = Person(place, "olga").sign_up()
        assert "The picture is at the end of the text." in add(olga, SMALL)
        threads = [threading.Thread(target=add, args=[olga, picture]) for picture in pictures * 2]
        threads += [threading.Thread(target=ask_for_account, args=[place, n]) for n in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert memory(process, "VmHWM") < 500 * MB
        assert "The picture is at the end of the text." in add(olga, pictures[0])
        assert memory(process, "VmRSS") < 220 * MB
