"""The server as `make run` starts it: its answers to odd requests, and how it stops."""

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def recipe():
    """The server's command line, as the Makefile has it."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    return re.search(r"exec \$\(BIN\)/(granian .*)", text)[1]


@contextmanager
def running(tmp_path):
    """The server's process and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = recipe().replace("$(HOST)", "127.0.0.1").replace("$(PORT)", str(port))
    environment = os.environ | {
        "BLOG_DATABASE_URL": f"sqlite:///{tmp_path / 'blog.db'}",
        "BLOG_SECRET_KEY": "only for tests",
        "PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}",
    }
    process = subprocess.Popen(command.split(), cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 20
        while not answers(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield process, port
    finally:
        # Not kill: its worker would live on.
        process.terminate()
        process.wait(15)
        process.stderr.close()


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def status(port, method, path, body=None, headers=None, **options):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, headers or {}, **options)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_server_answers_and_stops_cleanly(tmp_path, stop):
    with running(tmp_path) as (process, port):
        assert status(port, "GET", "/") == 200
        process.send_signal(stop)
        assert process.wait(15) == 0
        assert b"Traceback" not in process.stderr.read()
    # Without files beside it, which SQLite would apply to a backup in its place.
    assert [path.name for path in tmp_path.iterdir()] == ["blog.db"]


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_the_server_refuses_what_is_too_large_or_odd(tmp_path):
    with running(tmp_path) as (_process, port):
        chunks = [b"username=ann&password="] + [b"x" * 100_000] * 30
        assert status(port, "POST", "/login", b"x" * 1_048_577, FORM) == 413
        assert status(port, "POST", "/login", iter(chunks), FORM, encode_chunked=True) == 413
        assert status(port, "POST", "/login", iter(chunks[:3]), FORM, encode_chunked=True) == 400
        assert status(port, "GET", "/users/%00") == 404
        assert status(port, "GET", "/%ff") == 404
        assert status(port, "BREW", "/") == 405
        assert status(port, "GET", "/") == 200


def test_a_dozen_slow_clients_do_not_stop_the_server(tmp_path):
    with running(tmp_path) as (_process, port):
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(12)]
        head = (
            "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: 100\r\n\r\nuser"
        )
        [client.send(head.format(FORM["Content-Type"]).encode()) for client in slow]
        assert status(port, "GET", "/") == 200
        [client.close() for client in slow]
