"""The image of deploy/Containerfile, built without a daemon or a registry, and blogs in it.

They run as engines of containers run them: in a root file system that nobody can write, as a user
without a name and without rights, with one volume. Only the network is that of this machine.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from ast import literal_eval
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from conftest import Person, missing
from playwright.sync_api import expect
from test_browser import add_picture, browser, chromium, comment, follow, sign_up  # noqa: F401
from test_proxy import PICTURES, certificate, proxied, send_picture  # noqa: F401
from test_server import ROOT, Place, answers, free_port, status

# One worker builds the image, once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("image")]
SUITE = "trixie"  # the Debian whose Python is that of the Containerfile's base
PACKAGES = "ca-certificates,passwd,python3,python3-venv"
UNNEEDED = "--dpkgopt=path-exclude=/usr/share/doc/* --dpkgopt=path-exclude=/usr/share/locale/*"
PROGRAMS = ["buildah", "mmdebstrap"]
BYTES_ADDED_MAX = 250_000_000  # to the base
STOP_MAX = 10  # seconds until Docker kills what it stops
STRANGER = 12345  # a user whom the image's /etc/passwd does not know
# $1 is the root file system, $2 the volume, $3 its mode, $4 the user, and the rest a command.
CONTAINER = """
mount --bind "$1" "$1"
mount --bind "$2" "$1/data"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -o "remount,bind,$3" "$1"
root=$1 user=$4
shift 4
exec setpriv --no-new-privs --bounding-set=-all,+setuid,+setgid,+sys_chroot \
    chroot --userspec="$user:0" --groups= "$root" "$@"
"""


class Image(NamedTuple):
    """An image that was built."""

    root: Path  # its file system
    config: dict  # as Docker keeps it
    bytes_added: int  # to its base

    def command(self, words, settings):
        """The command as it runs in the image, with its variables alone."""
        variables = self.config["Env"] + [f"{name}={value}" for name, value in settings.items()]
        return ["env", "-i", "-C", self.config["WorkingDir"], *variables, *words]


class Container(NamedTuple):
    """A blog that runs in an image."""

    image: Image
    process: subprocess.Popen
    volume: Path
    user: int
    settings: dict

    def pid(self):
        """What its first process is called here."""
        number = self.process.pid
        return int(Path(f"/proc/{number}/task/{number}/children").read_text())

    def check_health(self):
        """The exit status of the image's health check."""
        kind, command = self.image.config["Healthcheck"]["Test"]
        assert kind == "CMD-SHELL"
        enter = ["nsenter", "-t", self.pid(), "--mount", "--pid", "--root", "-S", self.user, "-G0"]
        words = self.image.command(["/bin/sh", "-c", command], self.settings)
        return subprocess.run([*map(str, enter), *words], capture_output=True).returncode

    def stop(self):
        """What it wrote to stdout and stderr, once it is told to stop."""
        os.kill(self.pid(), signal.SIGTERM)
        return self.process.communicate(timeout=STOP_MAX)


@contextmanager
def running_image(image, volume, user=STRANGER, mode="ro", **settings):
    """A blog in the image, as soon as it answers at BLOG_PORT or PORT."""
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", CONTAINER]
    words = [*command, "sh", image.root, volume, mode, user]
    words += image.command(image.config["Cmd"], settings)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([str(word) for word in words], **pipes) as process:
        deadline = time.monotonic() + 30
        port = int(settings.get("BLOG_PORT") or settings["PORT"])
        while not answers(port) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            yield Container(image, process, volume, user, settings)
        finally:
            # The child of unshare is process 1 of the container: with it, all others end.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            pids = children.read_text().split() if children.exists() else []
            [os.kill(int(pid), signal.SIGKILL) for pid in pids]
            process.kill()


@pytest.fixture(scope="session")
def image():
    """The image, on a base of Debian's packages."""
    os.geteuid() == 0 or missing("The right to mount", "run the tests as root")
    for name in PROGRAMS:
        shutil.which(name) or missing(name, f"apt-get install {name}")
    with TemporaryDirectory(prefix="image", dir="/var/tmp") as folder:
        yield build(Path(folder))


def build(folder):
    """Build the image, with all that it takes in the folder."""
    buildah = f"buildah --storage-driver vfs --root {folder}/store --runroot {folder}/run"
    run(f"{buildah} from --name base scratch")
    base = Path(run(f"{buildah} mount base").strip())
    run(f"mmdebstrap --quiet --variant=essential --include={PACKAGES} {UNNEEDED} {SUITE} {base}")
    run(f"{buildah} commit base localhost/base")
    options = "--isolation chroot --format docker --build-arg BASE=localhost/base --tag blog"
    options += f" --file {ROOT}/deploy/Containerfile {package_index(folder)}"
    run(f"{buildah} bud {options} {ROOT}")
    run(f"{buildah} from --name blog localhost/blog")
    root = Path(run(f"{buildah} mount blog").strip())
    config = json.loads(run(f"{buildah} inspect --type image localhost/blog"))["Docker"]["config"]
    return Image(root, config, size(root) - size(base))


def size(folder):
    """The bytes of all files in the folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def run(command):
    """What the command says; an error with that where it fails."""
    result = subprocess.run(shlex.split(command), capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stdout[-3000:]}{result.stderr[-3000:]}"
    return result.stdout


def package_index(folder):
    """Options of buildah by which its pip finds packages where the pip of this machine does."""
    listed = run(f"{sys.executable} -m pip config list")
    found = {"cert": os.environ["SSL_CERT_FILE"]} if "SSL_CERT_FILE" in os.environ else {}
    for name, value in re.findall(r"^[^=\s]*\.([\w-]+)=('.*')$", listed, re.MULTILINE):
        found[name] = " ".join(literal_eval(value).split())
    lines = [f"{name} = {value}" for name, value in found.items()]
    (folder / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    mounts = {"/etc/pip.conf": folder / "pip.conf"}
    for word in " ".join(found.values()).split():
        # The links of an index in files lead out of its folder.
        path = Path(word.removeprefix("file://"))
        path = path.parent if word.startswith("file://") else path
        mounts |= {str(path): path} if path.is_absolute() and path.exists() else {}
    return " ".join(f"--volume {path}:{target}:ro" for target, path in mounts.items())


@pytest.fixture
def volume(image, tmp_path):
    """A new volume: engines give it the owner and the rights that its folder has in the image."""
    folder, pattern = tmp_path / "volume", (image.root / "data").stat()
    folder.mkdir()
    folder.chmod(pattern.st_mode & 0o7777)
    os.chown(folder, pattern.st_uid, pattern.st_gid)
    # Whoever runs the blog has to come to it.
    [parent.chmod(0o755) for parent in (tmp_path, tmp_path.parent, tmp_path.parent.parent)]
    return folder


# What is in the image -----------------------------------------------------------------------------


def test_the_image_says_how_to_run_it(image):
    assert image.config["User"] == "10001"
    assert image.config["Volumes"] == {"/data": {}}
    assert image.config["ExposedPorts"] == {"8000/tcp": {}}
    assert "BLOG_INSTANCE=/data" in image.config["Env"]
    assert "/healthz" in image.config["Healthcheck"]["Test"][1]


def test_the_image_is_small(image):
    assert image.bytes_added < BYTES_ADDED_MAX


def test_nothing_is_in_the_image_that_the_blog_does_not_need(image):
    home = image.root / "opt/blog"
    packages = {path.name for path in home.glob(".venv/lib/python3*/site-packages/*")}
    assert {"flask", "granian", "psycopg", "redis"} <= packages
    assert packages & {"pip", "pytest", "playwright", "mypy", "ruff"} == set()
    assert {path.name for path in home.iterdir()} & {"tests", "bench", "docs", "instance"} == set()
    assert [path for path in home.glob(".*") if path.name != ".venv"] == []


def test_all_bytecode_is_compiled(image):
    home = image.root / "opt/blog"
    sources = [*home.glob("*.py"), *home.glob("[a-z]*/**/*.py")]
    caches = [path.parent.glob(f"__pycache__/{path.stem}.cpython-*.pyc") for path in sources]
    assert [path for path, found in zip(sources, caches, strict=True) if not any(found)] == []


# A blog in it -------------------------------------------------------------------------------------


def test_a_journey_through_the_image(image, volume, browser, tmp_path):  # noqa: F811
    """Sign up, post a picture, log out, read, as anybody whom the image does not know."""
    port = free_port()
    with running_image(image, volume, BLOG_PORT=port) as container:
        page = browser.new_page()
        page.goto(f"http://localhost:{port}")
        sign_up(page, "abcxyz")
        follow(page, "link", "New Post")
        page.get_by_label("Title").fill("My first post")
        page.get_by_label("Text").fill("Hello.")
        add_picture(page, tmp_path)
        follow(page, "button", "Publish")
        comment(page, "Welcome!")
        follow(page, "button", "Log Out")
        follow(page, "link", "My first post", exact=True)
        expect(page.get_by_text("Published on")).to_contain_text("by abcxyz")
        expect(page.get_by_text("Commented on")).to_contain_text("by abcxyz")
        expect(page.get_by_alt_text("A colour")).to_have_js_property("naturalWidth", 600)
        output, errors = container.stop()
    assert container.process.returncode == 0
    assert f"The blog is at http://0.0.0.0:{port}".encode() in output
    assert b"Traceback" not in errors
    assert {path.name for path in volume.iterdir()} == {"blog.db", "secret_key"}


@pytest.mark.parametrize("name", ["BLOG_PORT", "PORT"])
def test_the_health_check_asks_the_port_that_is_set(image, volume, name):
    settings = {name: free_port(), "BLOG_URL": "https://blog.example/under", "BLOG_PROXIES": 1}
    with running_image(image, volume, **settings) as container:
        assert container.check_health() == 0
        assert container._replace(settings={name: free_port()}).check_health() == 1


def test_the_blog_is_stopped_while_a_client_sends(image, volume):
    """It ends by itself, before it would be killed."""
    port = free_port()
    with running_image(image, volume, BLOG_PORT=port) as container:
        assert status(port, "GET", "/") == 200
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.send(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nuser")
            container.stop()
    assert container.process.returncode == 0


def test_nothing_is_written_outside_the_volume(image, volume, browser, tmp_path):  # noqa: F811
    """Not even as root, where all could be written."""
    port, before = free_port(), time.time()
    with running_image(image, volume, user=0, mode="rw", BLOG_PORT=port) as container:
        page = browser.new_page()
        page.goto(f"http://localhost:{port}")
        sign_up(page, "ann")
        follow(page, "link", "New Post")
        add_picture(page, tmp_path)
        assert container.check_health() == 0
        container.stop()
    paths = [image.root, *image.root.rglob("*")]
    assert [path for path in paths if path.lstat().st_ctime > before] == []


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_large_pictures_come_through_a_proxy(image, volume, name, certificate, tmp_path):  # noqa: F811
    """One is taken, and of one the blog says what is too large about it."""
    blog = free_port()
    with proxied(tmp_path, name, "", certificate, blog) as (port, _):
        settings = {"BLOG_URL": f"https://localhost:{port}", "BLOG_PROXIES": 1, "BLOG_PORT": blog}
        context = ssl.create_default_context(cafile=certificate[0])
        with running_image(image, volume, **settings):
            lara = Person(Place(settings["BLOG_URL"], context), "lara").sign_up()
            assert [send_picture(lara, *expected) for expected in PICTURES[:2]] == [True, True]
