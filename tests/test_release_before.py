"""From the tables of the release before this one, with bans, drafts and all; and back again."""

import re
import sqlite3
from contextlib import closing

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from conftest import PASSWORD, QUICK_HASH, Person, execute, on_both
from flask import Flask
from werkzeug.security import generate_password_hash

from core import config, database
from core.database import db

OLD = "0003"
AT, SOON, NEVER = "2023-10-13 12:00:00", "2999-01-01 00:00:00", "9999-12-31 00:00:00"
USER = "INSERT INTO users (username, role, banned_at, password_hash, display_name, about, "
USER += "created_at) VALUES ('{}', '{}', {}, '{}', '', '', '2023-10-13 12:00:00')"
POST = "INSERT INTO posts (author_id, title, body, tags, published_at, withheld_at, created_at) "
POST += "VALUES ({}, '{}', '{}', '[\"{}\"]', '{}', {}, '2023-10-13 12:00:00')"
COMMENT = "INSERT INTO comments (post_id, author_id, body, state, created_at) "
COMMENT += "VALUES ({}, {}, '{}', '{}', '2023-10-13 12:00:00')"
PICTURE = f"{'a' * 32}-20x10.webp"


def rows():
    """Each row as the release before has written it."""
    word = generate_password_hash(PASSWORD, QUICK_HASH)
    return [
        USER.format("olga", "owner", "NULL", word),
        USER.format("ann", "author", "NULL", word),
        USER.format("eve", "author", f"'{AT}'", word),
        USER.format("deleted-4-abcdef", "member", f"'{AT}'", "!"),
        POST.format(2, "Of ann", f"A picture ![x](/pictures/{PICTURE})", "garden", AT, "NULL"),
        POST.format(2, "A draft", "Unfinished", "hidden", NEVER, "NULL"),
        POST.format(2, "A plan", "For later", "later", SOON, "NULL"),
        POST.format(3, "Of eve", "Withheld words", "spam", NEVER, f"'{AT}'"),
        POST.format(3, "A draft of eve", "Unfinished", "spam", NEVER, "NULL"),
        COMMENT.format(1, 1, "Of olga", "shown"),
        COMMENT.format(1, 3, "Hidden with its author", "banned"),
        COMMENT.format(1, 2, "It waits", "waiting"),
        COMMENT.format(1, 4, "Of who has left", "shown"),
        f"INSERT INTO pictures (name, author_id, created_at, webp) VALUES ('{PICTURE}', 2, '{AT}', "
        "'webp')",
        "INSERT INTO refusals (created_at, reason, username, text) VALUES ('2023-10-13 12:00:00', "
        "'Too often', 'x', 'y')",
        f"INSERT INTO attempts VALUES ('x', 1, '{SOON}')",
    ]


def alembic(url, tmp_path):
    """The configuration of Alembic for that database, and an app that is connected to it."""
    app = Flask("before", instance_path=str(tmp_path / "instance"))
    config.load(app, {"DATABASE_URL": url, "SECRET_KEY": "x"})
    database.connect(app)
    with app.app_context():
        settings = Config(attributes={"engine": db.engine})
    settings.set_main_option("script_location", str(database.MIGRATIONS))
    return settings, app


@pytest.fixture
def database_url(request, tmp_path):
    """The URL of a database of the release before, with rows in every table."""
    url = f"sqlite:///{tmp_path / 'blog.db'}"
    if request.param == "postgresql":
        postgresql = request.getfixturevalue("postgresql")
        execute(postgresql, "CREATE DATABASE before")
        url = postgresql.format("before")
    settings, app = alembic(url, tmp_path)
    with app.app_context():
        command.upgrade(settings, OLD)
        with db.engine.begin() as connection:
            [connection.exec_driver_sql(row) for row in rows()]
        db.engine.dispose()
    yield url
    if request.param == "postgresql":
        execute(postgresql, "DROP DATABASE before WITH (FORCE)")


def schema(url):
    """The tables, columns and indexes, as the database describes them."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return sorted(connection.execute("SELECT name, sql FROM sqlite_master"), key=str)
    columns = "table_name, column_name, data_type, is_nullable, column_default, is_generated"
    with psycopg.connect(url) as connection:
        found = connection.execute(
            f"SELECT {columns} FROM information_schema.columns WHERE table_schema = 'public'"
        ).fetchall()
        found += connection.execute("SELECT indexname, indexdef FROM pg_indexes").fetchall()
        found += connection.execute("SELECT conname, contype FROM pg_constraint").fetchall()
        found += connection.execute(
            "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
        ).fetchall()
        return sorted(found, key=str)


def words(found):
    """The same without an order of columns; SQLite cannot add one that is stored."""
    texts = [" ".join(map(str, row)).replace("STORED", "VIRTUAL") for row in found]
    return [sorted(re.findall(r"\w+", text)) for text in texts]


def titles(page):
    return re.findall(r'<h2 dir="auto"><a [^>]*>([^<]*)</a>', page.text)


@on_both
def test_everything_is_there_after_the_upgrade(make_app):
    app = make_app()
    nobody, ann, olga = Person(app), Person(app, "ann"), Person(app, "olga")
    assert [ann.log_in().status_code, olga.log_in().status_code] == [303, 303]
    assert titles(nobody.get("/")) == ["Of ann"]
    assert titles(nobody.get("/search?q=picture")) == ["Of ann"]
    assert re.findall(r'dir="auto">(\w+)</a> (\d+)', nobody.get("/tags").text) == [("garden", "1")]
    assert nobody.get(f"/pictures/{PICTURE}").status_code == 200
    post = nobody.get("/posts/1/of-ann").text
    assert "Of olga" in post
    assert "Of who has left" in post
    assert "It waits" not in post
    assert "Hidden with its author" not in post
    assert titles(ann.get("/drafts")) == ["A draft", "A plan"]
    assert "Moderation (1)" in olga.get("/").text
    assert nobody.get("/users/eve").status_code == 404


@on_both
def test_what_was_withheld_is_back_after_the_ban(make_app):
    app = make_app()
    nobody, olga = Person(app), Person(app, "olga")
    olga.log_in()
    olga.send("/owner/people/eve/unban")
    assert titles(nobody.get("/")) == ["Of eve", "Of ann"]
    assert titles(nobody.get("/search?q=withheld")) == ["Of eve"]
    assert titles(nobody.get("/tags/spam")) == ["Of eve"]
    assert "Hidden with its author" in nobody.get("/posts/1/of-ann").text
    assert Person(app, "eve").log_in().status_code == 303


@on_both
def test_the_way_back_leads_to_the_same_tables_and_rows(make_app, database_url, tmp_path):
    def texts():
        engine = sa.create_engine(database_url)
        with engine.connect() as connection:
            posts = "SELECT id, title, published_at, withheld_at FROM posts ORDER BY id"
            comments = "SELECT id, body, state FROM comments ORDER BY id"
            found = [connection.exec_driver_sql(query).all() for query in (posts, comments)]
        engine.dispose()
        return found

    before, rows_before = schema(database_url), texts()
    make_app()
    settings, app = alembic(database_url, tmp_path)
    with app.app_context():
        command.downgrade(settings, OLD)
        db.engine.dispose()
    assert words(schema(database_url)) == words(before)
    assert texts() == rows_before
