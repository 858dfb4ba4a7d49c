"""`wsgi.py` under the servers that people know, each by the line of its own documentation."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import flask
import pytest
from conftest import QUICK_HASH, Person, missing
from test_server import ROOT, Place, answers, free_port

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
PACKAGES = Path(flask.__file__).parent.parent
COMMENTS = 5
READERS = 4  # after each comment, so that each worker shows the page
# What Debian's own files say.
APACHE = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile apache2.pid
ErrorLog /dev/stderr
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule wsgi_module /usr/lib/apache2/modules/mod_wsgi.so
WSGISocketPrefix {folder}/wsgi
"""
# As in docs/hosting.md, but with two processes, and the packages of this Python.
MOD_WSGI = """
WSGIDaemonProcess blog processes=2 threads=4 python-path={root}:{packages}
WSGIProcessGroup blog
WSGIApplicationGroup %{{GLOBAL}}
WSGIScriptAlias / {root}/wsgi.py
"""
# mod_wsgi refuses to run as root: it is somebody else, to whom root's files belong.
AS_SOMEBODY = "unshare --user --map-user=1000 --map-group=1000" if os.geteuid() == 0 else ""
LINES = {
    "gunicorn": f"{BIN}/gunicorn --bind 127.0.0.1:{{port}} wsgi:app",
    "gunicorn --preload": f"{BIN}/gunicorn --bind 127.0.0.1:{{port}} --preload --workers 2 "
    "wsgi:app",
    "waitress": f"{BIN}/waitress-serve --listen=127.0.0.1:{{port}} wsgi:app",
    "uwsgi": "uwsgi --plugin python3 --pythonpath {packages} --http-socket 127.0.0.1:{port} "
    "--master --processes 2 --threads 4 --die-on-term --enable-threads --buffer-size 16384 "
    "--wsgi-file wsgi.py",
    "mod_wsgi": f"{AS_SOMEBODY} /usr/sbin/apache2 -f {{folder}}/apache2.conf -D FOREGROUND",
}
# Of Debian; they run the system's Python, which has to be of the version of this one.
DEBIAN = {
    "uwsgi": ("/usr/lib/uwsgi/plugins/python3_plugin.so", "uwsgi-plugin-python3"),
    "mod_wsgi": ("/usr/lib/apache2/modules/mod_wsgi.so", "libapache2-mod-wsgi-py3"),
}
every = pytest.mark.parametrize("server", LINES)
# Apache serves on, whatever happens to one of its applications.
ending = pytest.mark.parametrize("server", [name for name in LINES if name != "mod_wsgi"])


@pytest.fixture
def start(server, tmp_path):
    """A function that starts the server; its process and port."""
    check_program(server)
    port, processes = free_port(), []
    values = {"folder": tmp_path, "port": port, "root": ROOT, "packages": PACKAGES}
    (tmp_path / "apache2.conf").write_text((APACHE + MOD_WSGI).format(**values))

    def begin(**settings):
        defaults = {
            "BLOG_DATABASE_URL": f"sqlite:///{tmp_path / 'blog.db'}",
            "BLOG_SECRET_KEY": "only for tests",
            "BLOG_PASSWORD_HASH": QUICK_HASH,
            "BLOG_RATE_LIMITS": "off",
            "HOME": str(tmp_path),
        }
        words = LINES[server].format(**values).split()
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        environment = os.environ | defaults | settings
        processes.append(subprocess.Popen(words, cwd=ROOT, env=environment, **options))
        return processes[0], port

    yield begin
    processes[0].terminate()
    processes[0].communicate(timeout=15)


def check_program(server):
    """Skip what is not here, or runs another version of Python."""
    if server not in DEBIAN:
        return
    file, packages = DEBIAN[server]
    Path(file).exists() or missing(server, f"apt-get install {packages}")
    words = ["/usr/bin/python3", "-c", "import sys; print(sys.version_info[:2])"]
    if subprocess.check_output(words, text=True).strip() != str(sys.version_info[:2]):
        pytest.skip(f"{server} runs another version of Python, without the blog's packages.")


def blog_at(port):
    """The blog, once it answers at the port."""
    deadline = time.monotonic() + 20
    while not answers(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    return Place(f"http://127.0.0.1:{port}")


def commented(bob, post, number):
    """Comment, and read the page READERS times; how often the comment is on it."""
    bob.comment(post, f"It is number {number}.")
    pages = [Person(bob.app).get(post).text for _ in range(READERS)]
    return sum(f"It is number {number}." in page for page in pages)


def comment_until_it_is_gone(bob, post, acknowledged):
    """Comment until the server has stopped; what it took is added to the list."""
    with suppress(OSError, AssertionError):
        while True:
            body = f"Acknowledged {len(acknowledged)}."
            bob.comment(post, body)
            acknowledged.append(body)


@every
def test_what_is_written_shows_at_once_and_is_not_lost(start, tmp_path):
    """Sign up, write, comment; each comment is on the page, in every worker; then stop."""
    process, port = start()
    blog = blog_at(port)
    post = Person(blog, "ann").sign_up().write("A title", "Some text.")
    bob, acknowledged = Person(blog, "bob").sign_up(), []
    assert [commented(bob, post, n) for n in range(COMMENTS)] == [READERS] * COMMENTS
    args = [bob, post, acknowledged]
    writer = threading.Thread(target=comment_until_it_is_gone, args=args)
    writer.start()
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=15)
    writer.join()
    assert "Traceback" not in output
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        stored = {body for (body,) in connection.execute("SELECT body FROM comments")}
    assert len(acknowledged) > 0
    assert set(acknowledged) <= stored


@ending
def test_a_wrong_setting_is_one_sentence_and_the_end(start):
    """The server does not start its workers again and again."""
    process, _ = start(BLOG_DATABASE_URL="mysql://localhost/blog")
    output, _ = process.communicate(timeout=30)
    assert process.returncode > 0
    assert output.count("Error: ") == 1
    assert "BLOG_DATABASE_URL" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("server", ["mod_wsgi"])
def test_apache_says_what_is_wrong_in_its_log(start):
    process, port = start(BLOG_DATABASE_URL="mysql://localhost/blog")
    assert Person(blog_at(port)).get("/").status_code == 500
    process.terminate()
    output, _ = process.communicate(timeout=15)
    assert "BLOG_DATABASE_URL" in output
