"""Real servers that are killed, and crowded: what was acknowledged is there."""

import http.client
import itertools
import os
import signal
import sqlite3
import threading
from contextlib import closing, suppress
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from conftest import COOKIE, Person, on_both
from test_server import FORM, free_port, running

from core.database import db
from models import Comment

KILLS = 5
WRITERS, COMMENTS = 50, 4

pytestmark = pytest.mark.slow


@pytest.fixture
def writers(make_app):
    """A function that makes accounts on a blog with a post; the cookie and token of each."""
    app = make_app(RATE_LIMITS="off")
    Person(app, "olga").sign_up().write()

    def make(count):
        people = [Person(app, f"writer-{number}").sign_up() for number in range(count)]
        return [
            (person.token(), f"{COOKIE}={person.client.get_cookie(COOKIE).value}")
            for person in people
        ]

    return make


@pytest.fixture
def bodies(app):
    """A function that reads the texts of all comments."""

    def read():
        with app.app_context():
            return list(db.session.scalars(sa.select(Comment.body)))

    return read


def send(port, writer, body):
    """The status of the answer to a comment."""
    token, cookie = writer
    form = urlencode({"csrf_token": token, "body": body})
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("POST", "/posts/1/comments", form, FORM | {"Cookie": cookie})
        return connection.getresponse().status


def serve(tmp_path, port, database_url):
    settings = {"BLOG_DATABASE_URL": database_url, "BLOG_SECRET_KEY": "only for tests"}
    return running(tmp_path, port, "--port", str(port), BLOG_RATE_LIMITS="off", **settings)


@on_both
def test_a_killed_server_has_lost_nothing_that_it_acknowledged(
    tmp_path, database_url, writers, bodies
):
    people, acknowledged = writers(8), []

    def write_until_it_is_gone(port, kill, number):
        with suppress(OSError, http.client.HTTPException):
            for n in itertools.count():
                body = f"{kill} {number} {n}"
                assert send(port, people[number], body) == 303
                acknowledged.append(body)

    for kill in range(KILLS):
        port = free_port()
        with serve(tmp_path, port, database_url) as process:
            args = [(port, kill, number) for number in range(len(people))]
            threads = [threading.Thread(target=write_until_it_is_gone, args=arg) for arg in args]
            [thread.start() for thread in threads]
            threads[0].join(1)
            os.killpg(process.pid, signal.SIGKILL)
            [thread.join() for thread in threads]
        assert set(acknowledged) <= set(bodies())
    assert len(acknowledged) > KILLS
    assert len(bodies()) == len(set(bodies()))


@on_both
def test_fifty_writers_at_once_are_all_served(tmp_path, database_url, writers, bodies):
    people, statuses, port = writers(WRITERS), [], free_port()

    def write(number):
        statuses.extend(send(port, people[number], f"{number} {n}") for n in range(COMMENTS))

    with serve(tmp_path, port, database_url):
        threads = [threading.Thread(target=write, args=[number]) for number in range(WRITERS)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert statuses == [303] * WRITERS * COMMENTS
    assert len(set(bodies())) == WRITERS * COMMENTS


def test_a_killed_server_leaves_a_sound_file(tmp_path, database_url, writers):
    people, port = writers(1), free_port()
    with serve(tmp_path, port, database_url) as process:
        assert send(port, people[0], "The last one.") == 303
        os.killpg(process.pid, signal.SIGKILL)
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT body FROM comments").fetchall() == [("The last one.",)]
