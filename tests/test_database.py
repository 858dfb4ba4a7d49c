"""Upgrades, transactions and many writers at once."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from conftest import Person, execute, meanwhile, on_both, on_postgresql
from flask import before_render_template

from app import create_app
from core import database
from core.database import Base, db
from models import Comment, Post, User

WRITERS, COMMENTS = 8, 25


def number_of(app, model):
    with app.app_context():
        return db.session.scalar(sa.select(sa.func.count()).select_from(model))


# SQLite cannot say what an index on an expression holds.
@on_both
@pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression")
@pytest.mark.filterwarnings("ignore:Computed default on posts.has_pictures cannot be modified")
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_migrations_make_the_tables_of_the_models(app):
    with app.app_context(), db.engine.connect() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, kind, _: kind != "table" or not name.startswith("search"),
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []


@on_both
def test_names_are_unique_in_the_database(app):
    with app.app_context():
        User.create("ann", "x", "post")
        with pytest.raises(sa.exc.IntegrityError):
            User.create("ANN", "x", "post")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_six_processes_start_at_once_on_an_empty_database(request, tmp_path, kind):
    if kind == "postgresql":
        postgresql = request.getfixturevalue("postgresql")
        execute(postgresql, "CREATE DATABASE six")
        url = postgresql.format("six")
    else:
        url = f"sqlite:///{tmp_path / 'blog.db'}"
    code = f"from app import create_app; create_app({str(tmp_path)!r}, DATABASE_URL={url!r})"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    app = create_app(str(tmp_path), DATABASE_URL=url)
    assert number_of(app, User) == 0
    with app.app_context():
        db.engine.dispose()


@pytest.mark.slow
@on_both
def test_all_comments_of_eight_writers_at_once_arrive(make_app):
    """Each reads the post's page and then comments, like people do, but without a pause."""
    app = make_app(RATE_LIMITS="off")
    post = Person(app, "olga").sign_up().write()
    answers = []

    def write(number):
        writer = Person(app, f"writer-{number}").sign_up()
        for n in range(COMMENTS):
            answers.append(writer.get(post).status_code)
            answers.append(writer.send("/posts/1/comments", body=f"Number {n}").status_code)

    threads = [threading.Thread(target=write, args=[number]) for number in range(WRITERS)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(answers) == [200] * WRITERS * COMMENTS + [303] * WRITERS * COMMENTS
    assert number_of(app, Comment) == WRITERS * COMMENTS


def test_a_safe_request_that_writes_is_an_error_in_the_tests(app, ann):
    with app.test_request_context(), pytest.raises(AssertionError, match="GET / writes"):
        db.session.execute(sa.delete(User))


def test_an_acknowledged_write_survives_a_power_cut_on_sqlite(app):
    with app.app_context():
        pragmas = ["journal_mode", "synchronous", "foreign_keys"]
        values = [db.session.scalar(sa.text(f"PRAGMA {pragma}")) for pragma in pragmas]
    assert values == ["wal", 2, 1]


@on_both
def test_times_come_back_aware_in_utc(app, owner):
    at = datetime(2023, 10, 13, 12, tzinfo=timezone(timedelta(hours=2)))
    with app.app_context():
        post = Post(author_id=1, title="x", body="y", published_at=at)
        db.session.add(post)
        db.session.commit()
        db.session.expire_all()
        assert post.published_at == at
        assert post.published_at.tzinfo == UTC


def test_an_upgrade_that_would_lose_a_reference_is_undone(make_app, ann, tmp_path):
    ann.write()
    with closing(sqlite3.connect(tmp_path / "blog.db")) as connection, connection:
        connection.execute("DELETE FROM users WHERE username = 'ann'")
    with pytest.raises(RuntimeError, match="Not upgraded"):
        make_app()


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("posts", "edit"),
        ("posts", "delete"),
        ("posts", "comments"),
        ("comments", "edit"),
        ("comments", "delete"),
    ],
)
@on_postgresql
def test_who_changes_what_another_just_deletes_gets_a_404(app, ann, database_url, kind, action):
    ann.comment(ann.write())
    delete, fields = f"DELETE FROM {kind} WHERE id = 1", {"title": "x", "body": "Typed text."}
    answer = meanwhile(database_url, delete, ann, f"/{kind}/1/{action}", **fields)
    assert answer.status_code == 404
    assert "Typed text." in answer.text


@pytest.mark.parametrize("action", ["preview", "publish"])
def test_a_page_is_made_while_others_write_on_sqlite(app, ann, action, monkeypatch):
    path = ann.write()
    engine = []

    def write(_app, **_context):
        with app.app_context(), db.engine.begin() as other:
            engine.append(other.execute(sa.update(Post).values(body="Written meanwhile.")).rowcount)

    monkeypatch.setattr(database, "BUSY_MAX", 100)
    with before_render_template.connected_to(write, app):
        answer = ann.send("/posts/1/edit", title="x" * 201, body="Typed.", action=action)
    assert answer.status_code in (200, 422)
    assert engine == [1]
    assert "Written meanwhile." in ann.get(path).text


def test_a_writer_who_waits_too_long_is_told_so(app, ann, monkeypatch):
    path = ann.write()
    monkeypatch.setattr(database, "BUSY_MAX", 100)
    with app.app_context(), db.engine.begin() as other:
        other.execute(sa.update(Post).values(body="Not yet committed."))
        answers = []
        late = threading.Thread(
            target=lambda: answers.append(ann.send("/posts/1/comments", body="Typed text."))
        )
        late.start()
        late.join()
    assert answers[0].status_code == 503
    assert "Typed text." in answers[0].text
    assert ann.comment(path)
