"""Copies of the database, made while people write, and put back."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from conftest import USER, WORD, Person, close, missing, on_postgresql

from core import database
from core.database import db

ROOT = Path(__file__).parents[1]
WRITERS, SECONDS = 8, 20
# Of a database on PostgreSQL, with all that needs quoting.
NAME = "my blog/ü%"


def run(words, url, folder, blocks="unlimited"):
    """Run a command in a process that makes no file longer than so many blocks of 512 bytes."""
    line = ["sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh", sys.executable, "-m"]
    environment = os.environ | {
        "FLASK_APP": f"app:create_app({str(folder)!r})",
        "BLOG_DATABASE_URL": url,
        "BLOG_SECRET_KEY": "x",
    }
    line += words.split()
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def backup(app):
    """A function that runs `flask backup`."""
    return lambda *words: app.test_cli_runner().invoke(args=["backup", *map(str, words)])


def comments_in(path):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return {body for (body,) in connection.execute("SELECT body FROM comments")}


@pytest.mark.slow
def test_a_backup_under_eight_writers_holds_every_comment_from_before(
    make_app, database_url, tmp_path
):
    app = make_app(RATE_LIMITS="off")
    olga = Person(app, "olga").sign_up()
    olga.write()
    sent, results, stop = [], [], threading.Event()

    def write(writer):
        while not stop.is_set():
            body = f"Number {len(sent)} of {writer.name}"
            assert writer.send("/posts/1/comments", body=body).status_code == 303
            sent.append(body)

    writers = [Person(app, f"writer-{number}").sign_up() for number in range(WRITERS)]
    threads = [threading.Thread(target=write, args=[writer]) for writer in writers]
    [thread.start() for thread in threads]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        before = set(sent)
        path = tmp_path / f"copy-{len(results)}.db"
        code = app.test_cli_runner().invoke(args=["backup", str(path)]).exit_code
        results.append((code, before - comments_in(path)))
    stop.set()
    [thread.join() for thread in threads]
    assert results == [(0, set())] * len(results)
    assert len(sent) > len(before) > WRITERS


def test_a_backup_is_put_back(app, make_app, ann, bob, backup, tmp_path):
    post = ann.write()
    bob.comment(post, "From before")
    result = backup(tmp_path / "copy.db")
    assert result.exit_code == 0
    bob.comment(post, "From after")
    close(app)
    for path in re.search("delete (.*) and (.*), and put it", result.output).groups():
        Path(path).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy.db", tmp_path / "blog.db")
    page = Person(make_app()).get(post).text
    assert "From before" in page
    assert "From after" not in page


def test_a_backup_says_what_is_not_in_it(backup, tmp_path):
    result = backup(tmp_path / "copy.db")
    assert "secret key is not in it" in result.output
    assert str(tmp_path / "instance" / "secret_key") in result.output


def test_a_backup_is_one_file_that_others_cannot_read(backup, tmp_path):
    (tmp_path / "copies").mkdir()
    assert backup(tmp_path / "copies" / "copy.db").exit_code == 0
    (copy,) = (tmp_path / "copies").iterdir()
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_backup_holds_nothing_that_was_deleted(app, ann, backup, tmp_path):
    post = ann.write(body="A text that was regretted.")
    ann.send(post.rpartition("/")[0] + "/delete")
    backup(tmp_path / "copy.db")
    assert b"A text that was regretted" not in (tmp_path / "copy.db").read_bytes()


def test_a_backup_never_overwrites(backup, tmp_path):
    (tmp_path / "copy.db").write_text("precious")
    result = backup(tmp_path / "copy.db")
    assert result.exit_code == 1
    assert "copy.db exists and was left alone. Name a new file." in result.output
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_of_four_backups_to_one_file_one_is_made(app, tmp_path):
    path = tmp_path / "copy.db"
    results = []

    def copy():
        try:
            with app.app_context():
                results.append(database.copy_sqlite(db.engine, path))
        except FileExistsError as error:
            results.append(error)

    threads = [threading.Thread(target=copy) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(type(result).__name__ for result in results) == ["FileExistsError"] * 3 + [
        "NoneType"
    ]
    assert comments_in(path) == set()


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("", "exists and was left alone"),
        ("missing/copy.db", "was not made: No such file or directory."),
        ("blog.db/copy.db", "was not made: Not a directory."),
        ("x" * 300, "was not made: File name too long."),
    ],
)
def test_a_backup_says_what_is_wrong_with_its_target(backup, tmp_path, target, reason):
    before = sorted(tmp_path.rglob("*"))
    result = backup(tmp_path / target)
    assert result.exit_code == 1
    assert reason in result.output
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_backup_to_a_full_disk_leaves_nothing(app, database_url, tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    result = run(f"flask backup {folder}/copy.db", database_url, tmp_path / "instance", blocks=100)
    assert result.returncode == 1
    assert re.fullmatch("Error: .*copy.db was not made: (disk I/O error|.* full).\n", result.stderr)
    assert list(folder.iterdir()) == []


def test_a_damaged_database_gives_no_backup(app, ann, backup, tmp_path):
    ann.comment(ann.write())
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection, connection:
        connection.execute("DELETE FROM posts")
    result = backup(tmp_path / "copy.db")
    assert result.exit_code == 1
    assert "copy.db was not made: the database is damaged: [('comments', 1, " in result.output
    assert not (tmp_path / "copy.db").exists()


@on_postgresql
def test_on_postgresql_a_backup_is_a_line_to_paste(backup, app, ann, tmp_path):
    ann.write(title="From before")
    result = backup(tmp_path / "my copy")
    assert result.exit_code == 1
    line = result.output.splitlines()[-1]
    shutil.which("pg_restore") or missing("pg_dump", "apt-get install postgresql-client")
    subprocess.run(line, shell=True, check=True)
    listed = subprocess.run(["pg_restore", "-f-", tmp_path / "my copy"], capture_output=True)
    assert b"From before" in listed.stdout
    assert (tmp_path / "instance" / "last_backup").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://{user}:{word}@127.0.0.1:{port}/{name}",
        "postgres://{user}:{word}@127.0.0.2,127.0.0.1:{port}/{name}",
        "postgresql://{user}:{word}@/{name}?host=127.0.0.2:{port}&host=127.0.0.1:{port}",
        "postgresql://{user}:{word}@/{name}?host=127.0.0.2,127.0.0.1&port={port},{port}",
        "postgresql://{user}@127.0.0.1:{port}/{name}?password={word}&options=-c%20work_mem%3D8MB",
        "postgresql+psycopg://{user}@/{name}?host={folder}&port={port}&sslmode=disable",
        "postgresql://{user}:{word}@127.0.0.1:{port}/{name}?sslmode=prefer&sslpassword={word}",
    ],
)
def test_what_a_backup_on_postgresql_copies_is_restored(url, strict_server, make_app, tmp_path):
    port, folder = strict_server
    user, word = quote(USER, safe=""), quote(WORD, safe="")
    server = f"host={folder} port={port} user=blog dbname=postgres"
    with psycopg.connect(server, autocommit=True) as connection:
        for name in (NAME, "restored"):
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')

    def address(name):
        return url.format(user=user, word=word, port=port, name=quote(name, safe=""), folder=folder)

    app = make_app(DATABASE_URL=address(NAME))
    Person(app, "olga").sign_up().write(title="From before")
    file = tmp_path / "it's a copy"
    output = app.test_cli_runner().invoke(args=["backup", str(file)]).output
    assert WORD not in output
    assert word not in output
    close(app)
    environment = os.environ | {"PGPASSWORD": WORD}
    subprocess.run(output.splitlines()[-1], shell=True, check=True, env=environment)
    target = server.replace("postgres", "restored")
    subprocess.run(["pg_restore", "--exit-on-error", f"--dbname={target}", file], check=True)
    assert "From before" in Person(make_app(DATABASE_URL=address("restored"))).get("/").text


@on_postgresql
def test_a_line_for_a_backup_never_overwrites(backup, tmp_path):
    (tmp_path / "copy").write_text("precious")
    result = backup(tmp_path / "copy")
    assert result.exit_code == 1
    assert "copy exists and was left alone. Name a new file." in result.output


@on_postgresql
def test_on_postgresql_a_backup_is_for_its_owner_alone(backup, tmp_path):
    shutil.which("pg_restore") or missing("pg_dump", "apt-get install postgresql-client")
    line = backup(tmp_path / "copy").output.splitlines()[-1]
    subprocess.run(line, shell=True, check=True)
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


@on_postgresql
def test_a_backup_does_not_show_the_servers_password(backup, make_app, database_url, tmp_path):
    url = database_url.replace("blog@", "blog:hidden-word@")
    app = make_app(DATABASE_URL=url)
    output = app.test_cli_runner().invoke(args=["backup", "copy"]).output
    assert "pg_dump" in output
    assert "hidden-word" not in output


def test_an_export_is_for_its_owner_alone(make_app, tmp_path):
    path = tmp_path / "blog.zip"
    make_app().test_cli_runner().invoke(args=["export", str(path)])
    assert path.stat().st_mode & 0o777 == 0o600
