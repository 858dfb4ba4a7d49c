"""The cast of the tests, and the databases that they play on."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from flask import has_request_context, request
from jinja2 import FileSystemBytecodeCache
from werkzeug.serving import make_server

from app import create_app
from core.database import db

PASSWORD = "correct horse 9"
QUICK_HASH = "scrypt:1024:8:1"
SECRET_KEY = "only for tests"
USER, WORD = "o'hara @home", "it's a p@ss:/word"  # of a server that asks for passwords
COOKIE = "blog_session_9ada1bd4"  # of a blog with that key
# Where SQL or locking differs.
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
TEMPLATES = FileSystemBytecodeCache()  # compiled once, not once a test


def missing(component, remedy):
    """Skip the test for what this machine lacks; with CI=true, fail it."""
    sentence = f"{component} is missing: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@sa.event.listens_for(sa.Engine, "before_cursor_execute")
def refuse_writes_of_safe_requests(connection, _cursor, statement, *_):
    """RFC 9110 §9.2.1: who only reads changes nothing."""
    is_safe = has_request_context() and request.method in ("GET", "HEAD", "OPTIONS")
    is_ours = is_safe and connection.engine is db.engine
    if is_ours and re.match(r"\s*(INSERT|UPDATE|DELETE|CREATE|DROP)\b", statement):
        raise AssertionError(f"{request.method} {request.path} writes: {statement}")


class Person:
    """Somebody with a browser of their own."""

    def __init__(self, app, name=None, root=""):
        self.app, self.name, self.root = app, name, root
        self.client = app.test_client()
        self.known_token = ""

    def at(self, path):
        """The path below that of the blog."""
        return self.root + path.removeprefix(self.root)

    def get(self, path, **options):
        return self.client.get(self.at(path), buffered=True, **options)

    def token(self):
        """The CSRF token of this browser's session."""
        if not self.known_token:
            page = self.get("/login").text
            self.known_token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page)[1]
        return self.known_token

    def send(self, path, headers=None, **fields):
        if "csrf_token" not in fields:
            fields["csrf_token"] = self.token()
        if path in ("/signup", "/login", "/logout"):
            self.known_token = ""
        return self.client.post(self.at(path), data=fields, headers=headers)

    def sign_up(self):
        fields = {"username": self.name, "password": PASSWORD, "confirm": PASSWORD}
        assert self.send("/signup", **fields).status_code == 303
        return self

    def log_in(self, **fields):
        return self.send("/login", **{"username": self.name, "password": PASSWORD} | fields)

    def write(self, title="A title", body="Some text.", **fields):
        """Publish a post; its path."""
        answer = self.send("/posts/new", title=title, body=body, action="publish", **fields)
        assert answer.status_code == 303, answer.text
        return answer.location

    def comment(self, post, body="A comment."):
        """Comment on the post at that path; the comment's path, with its fragment."""
        answer = self.send(f"/posts/{post.split('/')[-2]}/comments", body=body)
        assert answer.status_code == 303, answer.text
        return answer.location


def links(person, path):
    """The paths on this site that a page leads to, and its status."""
    answer = person.get(path)
    page = answer.text if answer.mimetype == "text/html" else ""
    found = re.findall(r'(?:href|src)="([^"]+)"', page)
    urls = [urlsplit(urljoin(path, url.replace("&amp;", "&"))) for url in found]
    ours = {url._replace(fragment="").geturl() for url in urls if not url.netloc}
    return answer.status_code, {url for url in ours if not url.startswith("mailto:")}


def crawl(person):
    """All paths that are linked from page to page, and those that lead nowhere."""
    seen, todo, dead = set(), [person.at("/")], []
    while todo:
        path = todo.pop()
        seen.add(path)
        status, found = links(person, path)
        dead += [(path, status)] * (status >= 400)
        todo += found - seen - set(todo)
    return seen, dead


def fill(owner, ann):
    """Let them write posts of each kind, and comments."""
    first = owner.write("First", "See [the second](/posts/2/second).", tags="garden")
    second = ann.write("Second", "Some *text*.", tags="garden, bread")
    ann.send("/posts/new", title="Draft", body="Later", action="draft")
    ann.comment(first)
    owner.comment(second)


def meanwhile(url, statement, person, path, **fields):
    """The answer to what is sent while somebody else's statement waits for its COMMIT."""
    fields, answers = {"csrf_token": person.token()} | fields, []
    with psycopg.connect(url) as other:
        other.execute(statement)
        late = threading.Thread(target=lambda: answers.append(person.send(path, **fields)))
        late.start()
        late.join(0.5)
        assert late.is_alive()
        other.commit()
        late.join()
    return answers[0]


@contextmanager
def postgresql_server(options):
    """Run a PostgreSQL server of our own, which asks for passwords but on its Unix socket.

    The folder of the socket.
    """
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = programs[-1] if programs else Path(shutil.which("initdb") or "").parent
    if not (found / "initdb").is_file() or not (found / "pg_ctl").is_file():
        missing("PostgreSQL", "apt-get install postgresql")
    # A short path: a Unix socket's has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:
        # PostgreSQL refuses to run as root.
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if user:
            shutil.chown(folder, "postgres")

        def run(program, *words):
            command = [*user, found / program, "-D", f"{folder}/data", *words]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

        options = f"-k {folder} -c fsync=off {options}"
        access = ["--auth-local=trust", "--auth-host=scram-sha-256"]
        run("initdb", *access, "--username=blog", "--encoding=UTF8", "--no-sync")
        run("pg_ctl", "--wait", "-o", options, "-l", f"{folder}/log", "start")
        try:
            yield folder
        finally:
            run("pg_ctl", "--wait", "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def postgresql():
    """A connection string, but for its database, of a PostgreSQL server of our own."""
    with postgresql_server("-c listen_addresses='' -c max_connections=200") as folder:
        yield f"postgresql://blog@/{{}}?host={folder}"


@pytest.fixture(scope="session")
def strict_server():
    """A PostgreSQL server that asks for passwords at a port: the port, and its socket's folder."""
    port = free_port()
    with postgresql_server(f"-c listen_addresses=127.0.0.1 -p {port}") as folder:
        address = f"host={folder} port={port} user=blog dbname=postgres"
        with psycopg.connect(address, autocommit=True) as connection:
            password = WORD.replace("'", "''")
            connection.execute(f"CREATE ROLE \"{USER}\" SUPERUSER LOGIN PASSWORD '{password}'")
        yield port, folder


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    """An empty blog's SQLite file, to be copied."""
    folder = tmp_path_factory.mktemp("template")
    close(create_app(str(folder), SECRET_KEY="x"))
    return folder / "blog.db"


@pytest.fixture(scope="session")
def postgresql_template(postgresql, tmp_path_factory):
    """The name of an empty blog's PostgreSQL database, to be copied."""
    execute(postgresql, "CREATE DATABASE template")
    folder = str(tmp_path_factory.mktemp("template"))
    close(create_app(folder, SECRET_KEY="x", DATABASE_URL=postgresql.format("template")))
    return "template"


@pytest.fixture
def database_url(request, tmp_path):
    """The URL of an empty blog's database of this test's own; SQLite, if it does not say which."""
    if getattr(request, "param", "sqlite") == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "blog.db")
        yield f"sqlite:///{tmp_path / 'blog.db'}"
        return
    postgresql = request.getfixturevalue("postgresql")
    template = request.getfixturevalue("postgresql_template")
    execute(postgresql, f"CREATE DATABASE test TEMPLATE {template}")
    yield postgresql.format("test")
    execute(postgresql, "DROP DATABASE test WITH (FORCE)")


@pytest.fixture
def make_app(tmp_path, database_url):
    """A function that makes a blog on this test's database; settings as in `create_app`."""
    apps = []

    def make(**settings):
        defaults = {
            "SECRET_KEY": SECRET_KEY,
            "DATABASE_URL": database_url,
            "PASSWORD_HASH": QUICK_HASH,
        }
        app = create_app(str(tmp_path / "instance"), **defaults | settings)
        app.jinja_env.bytecode_cache = TEMPLATES
        apps.append(app)
        return app

    yield make
    for app in apps:
        close(app)


@pytest.fixture
def app(make_app):
    """A blog without any account."""
    return make_app()


@pytest.fixture
def nobody(app):
    """A visitor."""
    return Person(app)


@pytest.fixture
def owner(app):
    """The first account."""
    return Person(app, "olga").sign_up()


@pytest.fixture
def ann(app, owner):
    """An author."""
    return Person(app, "ann").sign_up()


@pytest.fixture
def bob(app, owner):
    """A stranger to ann."""
    return Person(app, "bob").sign_up()


@pytest.fixture
def serve():
    """A function that serves a blog on a port of this machine; its base URL."""
    servers = []

    def start(app):
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def execute(postgresql, statement):
    """Run a statement outside of a transaction on the server's own database."""
    with psycopg.connect(postgresql.format("postgres"), autocommit=True) as connection:
        connection.execute(statement)


def close(app):
    """Close the app's connections."""
    with app.app_context():
        db.engine.dispose()
