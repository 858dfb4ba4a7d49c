"""The server as `make run` starts it: its answers to odd requests, and how it stops."""

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPCookieProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    Request,
    build_opener,
)

import pytest
from conftest import free_port
from werkzeug.test import TestResponse, encode_multipart

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def recipe():
    """The command that serves the blog, as the Makefile has it."""
    return re.search(r"exec \$\(BIN\)/(.*)", (ROOT / "Makefile").read_text())[1].split()


def start(tmp_path, *words, command=(), **environment):
    """The server's process, where Make would find it, which leads a group of its own."""
    defaults = {
        "BLOG_DATABASE_URL": f"sqlite:///{tmp_path / 'blog.db'}",
        "BLOG_SECRET_KEY": "only for tests",
    }
    environment = os.environ | defaults | environment
    command = [*(command or [Path(sys.executable).parent / recipe()[0], *recipe()[1:]]), *words]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **options)


@contextmanager
def running(tmp_path, port, *words, host="127.0.0.1", command=(), **environment):
    """The server's process, once it answers at the port."""
    process = start(tmp_path, *words, command=command, **environment)
    try:
        deadline = time.monotonic() + 20
        while not answers(port, host) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process
    finally:
        # Not kill: its worker would live on.
        process.terminate()
        process.communicate(timeout=15)


def answers(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), 1).close()
    except OSError:
        return False
    return True


def ask(port, method, path, body=None, headers=None, host="127.0.0.1", **options):
    """The server's answer."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    connection.request(method, path, body, headers or {}, **options)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


class Place(NamedTuple):
    """A blog that is served, and may be behind a proxy."""

    url: str
    context: ssl.SSLContext | None = None  # that knows the proxy's certificate
    http_port: int = 0  # of the proxy
    blog: int = 0  # its own port
    settings: Mapping[str, str] = {}

    def test_client(self):
        """A browser, as `Person` wants it of an app."""
        return Client(self)


class NoRedirects(HTTPRedirectHandler):
    """Redirects are answers, as in Flask's test client."""

    def redirect_request(self, *_):
        return None


class Client:
    """A browser with cookies of its own, used like Flask's test client, over the network."""

    def __init__(self, place):
        https = HTTPSHandler(context=place.context)
        self.opener = build_opener(NoRedirects, HTTPCookieProcessor(CookieJar()), https)
        self.base = place.url.removesuffix(urlsplit(place.url).path)

    def get(self, path, buffered=True, **options):
        return self.open(path, **options)

    def post(self, path, **options):
        return self.open(path, **options)

    def open(self, path, data=None, headers=None):
        sent = Request(self.base + path, headers=headers or {})
        if data is not None:
            boundary, sent.data = encode_multipart(data)
            sent.add_header("Content-Type", f"multipart/form-data; boundary={boundary}")
        try:
            answer = self.opener.open(sent, timeout=120)
        except HTTPError as error:
            answer = error
        with answer:
            headers = list(answer.headers.items())
            return TestResponse([answer.read()], str(answer.status), headers, None)


def status(*request, **options):
    return ask(*request, **options).status


def location(port, path):
    return ask(port, "GET", path).getheader("Location")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_server_answers_and_stops_cleanly(tmp_path, stop):
    port = free_port()
    with running(tmp_path, port, "--port", str(port)) as process:
        assert status(port, "GET", "/") == 200
        process.send_signal(stop)
        _, errors = process.communicate(timeout=15)
    assert process.returncode == 0
    assert b"Traceback" not in errors
    # Without files beside it, which SQLite would apply to a backup in its place.
    assert [path.name for path in tmp_path.iterdir()] == ["blog.db"]


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        ("--port {port}", {"BLOG_PORT": "1"}),
        ("--host 127.0.0.1", {"BLOG_PORT": "{port}", "BLOG_HOST": "192.0.2.1"}),
        ("", {"BLOG_PORT": "{port}", "PORT": "1"}),
        ("", {"PORT": "{port}"}),
        ("--host localhost", {"PORT": "{port}", "HOST": "192.0.2.1"}),
        ("", {"PORT": "{port}", "HOST": "nowhere.invalid"}),
    ],
)
def test_the_server_listens_where_it_is_told(tmp_path, words, environment):
    port = free_port()
    environment = {name: value.format(port=port) for name, value in environment.items()}
    with running(tmp_path, port, *words.format(port=port).split(), **environment):
        assert status(port, "GET", "/healthz") == 200


def test_the_server_listens_at_an_address_of_ipv6(tmp_path):
    port = free_port()
    words = ["--host", "::1", "--port", str(port)]
    with running(tmp_path, port, *words, BLOG_URL=f"http://[::1]:{port}", host="::1"):
        assert status(port, "GET", "/feed.xml", host="::1") == 200
        headers = {"Host": "localhost"}
        assert status(port, "GET", "/feed.xml", headers=headers, host="::1") == 400


def test_at_all_addresses_of_ipv6_those_of_ipv4_are_served_too(tmp_path):
    port = free_port()
    with running(tmp_path, port, "--host", "::", "--port", str(port)):
        assert status(port, "GET", "/healthz", host="::1") == 200
        assert status(port, "GET", "/healthz") == 200


def test_the_file_of_the_app_is_a_program_that_serves(tmp_path):
    port = free_port()
    command = [sys.executable, ROOT / "app.py"]
    with running(tmp_path, port, "--port", str(port), command=command):
        assert status(port, "GET", "/healthz") == 200


def test_the_line_for_platforms_serves_at_all_addresses(tmp_path):
    port = free_port()
    command = (ROOT / "Procfile").read_text().removeprefix("web: ").split()
    command[0] = sys.executable
    with running(tmp_path, port, command=command, PORT=str(port)) as process:
        words = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
        assert status(port, "GET", "/healthz") == 200
    assert words[words.index("--host") + 1] == "0.0.0.0"


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("nowhere.invalid", "The host 'nowhere.invalid' has no address."),
        ("no..name", "The host 'no..name' has no address."),
        ("192.0.2.1", "192.0.2.1:{port} is taken or not of this machine"),
        ("2001:db8::1", "[2001:db8::1]:{port} is taken or not of this machine"),
    ],
)
def test_a_host_that_is_none_is_said_in_a_sentence(tmp_path, host, sentence):
    port = str(free_port())
    process = start(tmp_path, "--host", host, "--port", port)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.decode().startswith(f"Error: {sentence.format(port=port)}")
    assert errors.count(b"\n") == 1


def test_a_worker_that_is_killed_is_started_again(tmp_path):
    port = free_port()
    with running(tmp_path, port, "--port", str(port)) as process:
        assert status(port, "GET", "/healthz") == 200
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        before = children.read_text().split()
        [os.kill(int(child), signal.SIGKILL) for child in before]
        deadline = time.monotonic() + 30
        while children.read_text().split() in (before, []) or not answers(port):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert status(port, "GET", "/healthz") == 200


def test_a_new_database_is_one_line_in_the_log(tmp_path):
    port = free_port()
    with running(tmp_path, port, "--port", str(port)) as process:
        status(port, "GET", "/")
        process.terminate()
        output, errors = process.communicate(timeout=15)
    first, second = output.decode().splitlines()
    assert first.endswith(
        f"A new database was made: {tmp_path / 'blog.db'}. The first account will own the blog."
    )
    assert second == f"The blog is at http://127.0.0.1:{port}: Ctrl-C stops it."
    assert errors == b""


def test_no_slash_leads_to_another_host(tmp_path):
    port = free_port()
    with running(tmp_path, port, "--port", str(port)):
        assert location(port, "//tags/") == "/tags"
        assert location(port, "/%2Ftags/?a") == "/tags?a"
        assert location(port, "/%5Ctags/") is None
        assert location(port, "//evil.example/") is None


@pytest.mark.parametrize(
    ("host", "place"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::", "[::]")]
)
def test_a_port_that_is_taken_is_said_in_a_sentence(tmp_path, host, place):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        process = start(tmp_path, "--host", host, "--port", port)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert re.fullmatch(rf"Error: {re.escape(place)}:{port} is taken.*\n", errors.decode())


def test_the_server_has_as_many_threads_as_the_settings_say(tmp_path):
    port = free_port()
    with running(tmp_path, port, "--port", str(port), BLOG_THREADS="3") as process:
        words = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
    assert words[words.index("--blocking-threads") + 1] == "3"


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def slow_client(port):
    """A connection that has sent a part of its form."""
    client = socket.create_connection(("127.0.0.1", port))
    head = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: 100\r\n\r\nuser"
    client.send(head.format(FORM["Content-Type"]).encode())
    return client


def test_the_server_refuses_what_is_too_large_or_odd(tmp_path):
    port = free_port()
    with running(tmp_path, port, "--port", str(port)):
        chunks = [b"username=ann&password="] + [b"x" * 100_000] * 30
        assert status(port, "POST", "/login", b"x" * 1_048_577, FORM) == 413
        assert status(port, "POST", "/login", iter(chunks), FORM, encode_chunked=True) == 413
        assert status(port, "POST", "/login", iter(chunks[:3]), FORM, encode_chunked=True) == 400
        assert status(port, "GET", "/users/%00") == 404
        assert status(port, "GET", "/%ff") == 404
        assert status(port, "BREW", "/") == 405
        assert status(port, "GET", "/") == 200


@pytest.mark.parametrize(("threads", "clients"), [(16, 12), (16, 24), (2, 12)])
def test_slow_clients_do_not_stop_the_server(tmp_path, threads, clients):
    port = free_port()
    with running(tmp_path, port, "--port", str(port), BLOG_THREADS=str(threads)):
        slow = [slow_client(port) for _ in range(clients)]
        assert status(port, "GET", "/tags") == 200
        assert status(port, "GET", "/") == 200
        [client.close() for client in slow]
