"""What `flask doctor` finds."""

import os
import shutil
import sqlite3
import ssl
import subprocess
import threading
import time
from contextlib import closing

import psycopg
import pytest
from conftest import Person, missing, on_both, on_postgresql
from test_backup import run
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

WELL = {"SIGNUP": "invite", "URL": None, "PROXIES": 0}
NO_BACKUP = "Risky: No backup was made in 7 days. Run flask backup FILE every day.\n"


@pytest.fixture
def trace(tmp_path):
    """The file that a backup touches."""
    (tmp_path / "instance").mkdir()
    trace = tmp_path / "instance" / "last_backup"
    trace.touch()
    return trace


@pytest.fixture
def doctor(make_app, trace, monkeypatch):
    """A function that runs `flask doctor` on a blog with settings, by default harmless ones."""
    monkeypatch.delenv("FLASK_DEBUG", raising=False)

    def visit(**settings):
        return make_app(**WELL | settings).test_cli_runner().invoke(args=["doctor"])

    return visit


class Handler(WSGIRequestHandler):
    """Takes underscores in the names of headers for hyphens, as Granian does."""

    def make_environ(self):
        sent = {
            f"HTTP_{name.upper().replace('-', '_')}": text for name, text in self.headers.items()
        }
        return super().make_environ() | sent


@pytest.fixture
def behind_https(tmp_path, monkeypatch):
    """A function that serves a blog behind a proxy that speaks https; its base URL."""
    shutil.which("openssl") or missing("openssl", "apt-get install openssl")
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
    command += f"-subj /CN=localhost -addext subjectAltName=DNS:localhost -out {certificate}"
    subprocess.run([*command.split(), "-keyout", key], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    servers = []

    def start(make_app, believes=False, root="", **forwarded):
        def proxy(environ, respond):
            """Pass on what arrives, as if from afar, with the path."""
            sent = {name: environ[name] for name in forwarded if believes and name in environ}
            return app(environ | {"wsgi.url_scheme": "http"} | forwarded | sent, respond)

        options = {"ssl_context": context, "request_handler": Handler}
        server = make_server("127.0.0.1", 0, proxy, **options)
        url = f"https://localhost:{server.server_port}{root}"
        app = make_app(**WELL | {"URL": url, "PROXIES": 1})
        servers.append((server, threading.Thread(target=server.serve_forever)))
        servers[-1][1].start()
        return app

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def test_all_is_well(doctor):
    result = doctor()
    assert (result.exit_code, result.output) == (0, "All is well.\n")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"URL": "http://blog.example"}, "Wrong: BLOG_URL is http"),
        ({"SIGNUP": "open"}, "Risky: Anybody can sign up"),
        ({"URL": "https://blog.example"}, "Risky: BLOG_URL is https, but BLOG_PROXIES is 0"),
        ({"PROXIES": 2}, "Risky: BLOG_PROXIES is 2, but whether they are there is unknown"),
        (
            {"URL": "https://localhost:1", "PROXIES": 1},
            "Risky: https://localhost:1 cannot be asked",
        ),
        ({"RATE_LIMITS": "off", "PROXIES": 1}, "Risky: Passwords can be tried without end"),
    ],
)
def test_a_setting_is_named(doctor, settings, sentence):
    result = doctor(**settings)
    assert sentence in result.output
    assert result.exit_code == sentence.startswith("Wrong")
    assert "All is well" not in result.output


@pytest.mark.parametrize(
    "settings",
    [
        {"SIGNUP": "open", "MODERATION": "first"},
        {"SIGNUP": "closed"},
        {"URL": "http://localhost:8000"},
        {"RATE_LIMITS": "off"},
    ],
)
def test_what_is_harmless_is_not_named(doctor, settings):
    assert doctor(**settings).output == "All is well.\n"


@pytest.mark.parametrize(
    ("settings", "status"), [({"URL": "https://blog.example"}, 1), ({"PROXIES": 1}, 1), ({}, 0)]
)
def test_debug_mode_is_wrong_in_public(doctor, monkeypatch, settings, status):
    monkeypatch.setenv("FLASK_DEBUG", "1")
    result = doctor(**settings)
    assert result.exit_code == status
    assert result.output.count("Wrong: Debug mode lets visitors run code") == status


@pytest.mark.parametrize("name", ["secret_key", "config.toml"])
def test_a_key_that_others_can_read_is_named(doctor, trace, name):
    path = trace.with_name(name)
    path.touch(mode=0o644)
    result = doctor()
    assert result.exit_code == 1
    assert result.output == f"Wrong: Others on this machine can read {path}. Run chmod 600 on it.\n"
    path.chmod(0o600)
    assert doctor().exit_code == 0


NO_ACCOUNT = "Risky: There is no account, and the first one will own the blog."
NEW_KEY = "The secret key is not the one that this database was used with."


@pytest.mark.parametrize(
    "settings", [{"URL": "https://blog.example", "PROXIES": 1}, {"HOST": "0.0.0.0"}]
)
def test_a_blog_without_accounts_is_named_in_public(make_app, doctor, settings, tmp_path):
    assert NO_ACCOUNT in (output := doctor(**settings).output)
    assert f"this is another database: {tmp_path / 'blog.db'}" in output
    Person(make_app(), "olga").sign_up()
    assert NO_ACCOUNT not in doctor(**settings).output


def test_a_blog_without_accounts_is_named_in_the_folder_that_may_be_lost(doctor, trace):
    assert NO_ACCOUNT in doctor(DATABASE_URL=f"sqlite:///{trace.with_name('blog.db')}").output


@on_both
def test_another_secret_key_is_named_until_it_is_accepted(make_app, doctor, caplog):
    Person(make_app(), "olga").sign_up()
    assert doctor().output == "All is well.\n"
    assert NEW_KEY not in caplog.text
    result = doctor(SECRET_KEY="another")
    assert result.exit_code == 1
    assert f"Wrong: {NEW_KEY}" in result.output
    assert "flask doctor --accept-key" in caplog.text
    app = make_app(**WELL, SECRET_KEY="another")
    accepted = app.test_cli_runner().invoke(args=["doctor", "--accept-key"])
    assert accepted.output == "All is well.\n"
    caplog.clear()
    assert doctor(SECRET_KEY="another").output == "All is well.\n"
    assert caplog.text == ""
    assert f"Wrong: {NEW_KEY}" in doctor().output


@on_both
def test_a_key_that_is_lost_before_the_second_start_is_named(make_app, doctor, caplog):
    Person(make_app(), "olga").sign_up()
    assert f"Wrong: {NEW_KEY}" in doctor(SECRET_KEY="another").output
    assert NEW_KEY in caplog.text


@on_postgresql
def test_where_the_database_is_does_not_tell_its_password(make_app, doctor, database_url):
    url = database_url.replace("blog@", "blog:hidden-word@") + "&password=hidden-word"
    output = doctor(DATABASE_URL=url, HOST="0.0.0.0").output
    assert "this is another database: postgresql://" in output
    assert "hidden-word" not in output


def test_before_the_first_account_any_key_will_do(make_app, doctor):
    doctor(SECRET_KEY="another")
    Person(make_app(), "olga").sign_up()
    assert doctor().output == "All is well.\n"


def test_the_secret_key_is_not_in_the_database(make_app, doctor, tmp_path):
    Person(make_app(SECRET_KEY="easily-found"), "olga").sign_up()
    doctor(SECRET_KEY="easily-found")
    assert b"easily-found" not in (tmp_path / "blog.db").read_bytes()


def test_a_proxy_that_does_its_work_is_seen(make_app, behind_https, trace):
    app = behind_https(make_app, HTTP_X_FORWARDED_PROTO="https", HTTP_X_FORWARDED_FOR="192.0.2.1")
    assert app.test_cli_runner().invoke(args=["doctor"]).output == "All is well.\n"


def test_a_proxy_that_was_never_seen_is_named(make_app, behind_https, trace):
    result = behind_https(make_app).test_cli_runner().invoke(args=["doctor"])
    assert result.exit_code == 1
    assert "Wrong: BLOG_PROXIES is 1, but so many were never seen" in result.output


def test_a_proxy_that_passes_on_what_a_visitor_claims_is_named(make_app, behind_https, trace):
    app = behind_https(make_app, believes=True, HTTP_X_FORWARDED_PROTO="https")
    result = app.test_cli_runner().invoke(args=["doctor"])
    assert result.exit_code == 1
    assert "drop headers with underscores" in result.output


@pytest.mark.parametrize(
    ("root", "prefix", "is_named"),
    [
        *(("", None, False), ("", "/blog", True), ("", "/", False)),
        *(("/blog", None, False), ("/blog", "/blog", False), ("/blog", "/blog/", False)),
        *(("/blog", "/", True), ("/blog", "/other", True), ("/blog", "/blog/x", True)),
    ],
)
def test_a_prefix_that_says_something_else_is_named(
    make_app, behind_https, trace, root, prefix, is_named
):
    sent = {"HTTP_X_FORWARDED_PREFIX": prefix} if prefix else {}
    app = behind_https(make_app, root=root, HTTP_X_FORWARDED_PROTO="https", **sent)
    result = app.test_cli_runner().invoke(args=["doctor"])
    sentence = f"Risky: A proxy sets X-Forwarded-Prefix to '{prefix}', which BLOG_URL contradicts."
    assert (sentence in result.output) == is_named
    assert (result.output == "All is well.\n") != is_named


def test_a_blog_under_a_path_is_asked_without_https_too(make_app, trace, serve):
    """What runs believes no prefix, whoever sends it."""

    def proxy(environ, respond):
        return app(environ | {"HTTP_X_FORWARDED_PREFIX": "/other"}, respond)

    url = f"{serve(proxy)}/blog"
    app = make_app(**WELL | {"URL": url})
    result = app.test_cli_runner().invoke(args=["doctor"])
    assert "Risky: A proxy sets X-Forwarded-Prefix to '/other'" in result.output


def test_a_path_that_leads_to_another_site_is_named(make_app, trace, serve):
    url = f"{serve(Response('Elsewhere', 404))}/blog"
    app = make_app(**WELL | {"URL": url})
    result = app.test_cli_runner().invoke(args=["doctor"])
    assert result.output.startswith(f"Risky: {url}/healthz answers 404.")


def test_a_week_without_a_backup_is_named(doctor, trace):
    week = time.time() - 7 * 86_400
    os.utime(trace, (week, week))
    result = doctor()
    assert (result.exit_code, result.output) == (0, NO_BACKUP)


def test_a_backup_is_noticed(doctor, make_app, trace, tmp_path):
    trace.unlink()
    assert doctor().output == NO_BACKUP
    make_app().test_cli_runner().invoke(args=["backup", str(tmp_path / "copy.db")])
    assert doctor().output == "All is well.\n"


def test_a_full_disk_is_named(database_url, trace):
    result = run("flask doctor", database_url, trace.parent, blocks=1000)
    assert result.returncode == 1
    assert "Wrong: The database or" in result.stdout
    assert "cannot be written ([Errno 27] File too large)" in result.stdout


@on_postgresql
def test_a_database_that_cannot_be_written_is_named(doctor, database_url):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER DATABASE test SET default_transaction_read_only = on")
    result = doctor()
    assert result.exit_code == 1
    assert "cannot execute UPDATE in a read-only transaction" in result.output


@on_postgresql
def test_with_postgresql_the_instance_folder_need_not_be_there(make_app, trace):
    app = make_app(**WELL)
    Person(app, "olga").sign_up()
    trace.unlink()
    trace.parent.rmdir()
    result = app.test_cli_runner().invoke(args=["doctor"])
    assert (result.exit_code, result.output) == (0, NO_BACKUP)


def test_a_copy_from_before_an_upgrade_is_named(doctor, tmp_path):
    copy = tmp_path / "blog.db.before-0001"
    copy.touch()
    result = doctor()
    assert result.exit_code == 0
    assert f"Risky: {copy} is from before an upgrade" in result.output
    copy.unlink()
    assert doctor().output == "All is well.\n"


def test_an_old_schema_that_cannot_be_upgraded_is_named(database_url, tmp_path):
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    result = run("flask doctor", database_url, tmp_path / "instance")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: Not upgraded, the database is as it was: ")
