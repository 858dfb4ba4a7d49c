"""From the tables of the first release to those of this one and the next."""

import re
import shutil
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from conftest import Person, execute, on_both
from flask import Flask
from test_backup import ROOT, run

from core import config, database
from core.database import UpgradeError, atomic, db
from models import Post

MIGRATIONS = database.MIGRATIONS
HEAD = ScriptDirectory(str(MIGRATIONS)).get_current_head()
STEP = f'''
"""A step of the next release, which makes on SQLite a table anew that others refer to."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{HEAD}"


def upgrade():
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("shoe_size", sa.Integer, nullable=False, server_default="40"))
    %s
'''
# Each row as it was written by the first release.
AT = "2023-10-13 12:00:00.000000"
ROWS = [
    f"INSERT INTO users VALUES (1, 'olga', 'x', 'owner', '', '', '{AT}')",
    f"INSERT INTO users VALUES (3, 'Ann', 'x', 'member', 'Änn', 'About', '{AT}')",
    f"INSERT INTO sessions VALUES ('cookie', 3, '{AT}', '2100-01-01 00:00:00.000000')",
    f"INSERT INTO posts (id, author_id, title, body, tags, created_at, published_at) "
    f"VALUES (5, 1, 'First title', '![](/pictures/a)', '[\"garden\"]', '{AT}', '{AT}')",
    f"INSERT INTO posts (id, author_id, title, body, tags, created_at, published_at, updated_at) "
    f"VALUES (6, 1, 'A draft', 'x', '[]', '{AT}', '9999-01-01 00:00:00.000000', '{AT}')",
    f"INSERT INTO comments VALUES (7, 5, 3, 'First comment', '{AT}', NULL)",
    f"INSERT INTO comments VALUES (9, 5, 1, 'Second comment', '{AT}', '{AT}')",
    f"INSERT INTO pictures VALUES ('a', 1, '{AT}', '\\x00')",
]
TABLES = ["alembic_version", "users", "sessions", "posts", "tags", "comments", "pictures"]
# Six processes that start at the same moment; its status is the sum of theirs.
SIX = """
import os, sys, app
from core import database
database.MIGRATIONS, folder, url = sys.argv[1:]
for _ in range(6):
    if not os.fork():
        app.create_app(folder, DATABASE_URL=url)
        os._exit(0)
sys.exit(sum(os.wait()[1] for _ in range(6)))
"""


@pytest.fixture
def database_url(request, tmp_path):
    """The URL of a database of the first release, with rows in every table."""
    url = f"sqlite:///{tmp_path / 'blog.db'}"
    is_postgresql = getattr(request, "param", "sqlite") == "postgresql"
    if is_postgresql:
        postgresql = request.getfixturevalue("postgresql")
        execute(postgresql, "CREATE DATABASE old")
        url = postgresql.format("old")
    app = Flask("first", instance_path=str(tmp_path / "instance"))
    config.load(app, {"DATABASE_URL": url, "SECRET_KEY": "x"})
    database.connect(app)
    with app.app_context():
        alembic = Config(attributes={"engine": db.engine})
        alembic.set_main_option("script_location", str(MIGRATIONS))
        command.upgrade(alembic, "0001")
        with db.engine.begin() as connection:
            [connection.exec_driver_sql(row) for row in ROWS]
        db.engine.dispose()
    yield url
    if is_postgresql:
        execute(postgresql, "DROP DATABASE old WITH (FORCE)")


@pytest.fixture
def next_release(tmp_path, monkeypatch):
    """A function that makes this the next release, whose step ends with a statement."""

    def make(end="pass"):
        folder = tmp_path / "migrations"
        shutil.copytree(MIGRATIONS, folder, dirs_exist_ok=True)
        (folder / "versions" / "9999_next.py").write_text(STEP % end)
        monkeypatch.setattr(database, "MIGRATIONS", folder)

    return make


def content(url, columns=None):
    """The columns and rows of each table; if columns are given, only those."""
    engine = sa.create_engine(str(url))
    found = {}
    with engine.connect() as connection:
        for table in TABLES:
            names = ", ".join(columns[table]) if columns else "*"
            rows = connection.exec_driver_sql(f"SELECT {names} FROM {table} ORDER BY 1")
            found[table] = [tuple(rows.keys()), *map(tuple, rows)]
    engine.dispose()
    return found


def columns(before):
    """The columns of each table, but for one that said what others say."""
    return {
        table: tuple(name for name in rows[0] if name != "has_pictures")
        for table, rows in before.items()
    }


def tables(url):
    engine = sa.create_engine(url)
    names = sa.inspect(engine).get_table_names()
    engine.dispose()
    return sorted(names)


def copies(tmp_path):
    return [path.name for path in tmp_path.glob("*.before*")]


@on_both
def test_every_row_of_the_first_release_arrives(make_app, next_release, database_url):
    names = columns(content(database_url))
    before = content(database_url, names)
    next_release()
    app = make_app()
    after = content(database_url, names)
    assert after.pop("alembic_version") == [("version_num",), ("9999",)]
    before.pop("alembic_version")
    assert after == before
    assert min(len(rows) for rows in before.values()) > 1
    nobody = Person(app)
    assert "Second comment" in nobody.get("/posts/5/first-title").text
    assert "First title" in nobody.get("/search?q=garden").text


@on_both
def test_search_finds_and_forgets_what_was_there_before(make_app):
    app = make_app()
    nobody = Person(app)
    assert "First title" in nobody.get("/search?q=gard").text
    with app.app_context(), atomic():
        post = db.session.get(Post, 5)
        post.title, post.tags = "Another", []
        Post.save(post)
    assert "Another" not in nobody.get("/search?q=garden").text
    assert "Another" in nobody.get("/search?q=anothe").text


@on_both
@pytest.mark.slow
def test_six_processes_start_at_once_on_an_old_database(next_release, database_url, tmp_path):
    names = columns(content(database_url))
    before = content(database_url, names)
    next_release()
    words = [str(database.MIGRATIONS), str(tmp_path), database_url]
    subprocess.run([sys.executable, "-c", SIX, *words], cwd=ROOT, check=True)
    after = content(database_url, names)
    assert after.pop("alembic_version") == [("version_num",), ("9999",)]
    assert after.items() < before.items()
    assert len(copies(tmp_path)) == database_url.startswith("sqlite")


def test_a_copy_of_the_old_database_stays_beside_it(make_app, next_release, database_url, tmp_path):
    before = content(database_url)
    next_release()
    make_app()
    copy = tmp_path / "blog.db.before-0001"
    assert content(f"sqlite:///{copy}") == before
    assert copy.stat().st_mode & 0o077 == 0


def test_an_older_copy_is_not_overwritten(make_app, next_release, database_url, tmp_path):
    before = content(database_url)
    older = tmp_path / "blog.db.before-0001"
    older.write_text("from an upgrade that was taken back")
    next_release()
    make_app()
    assert older.read_text() == "from an upgrade that was taken back"
    (copy,) = tmp_path.glob("blog.db.before-0001-*")
    assert content(f"sqlite:///{copy}") == before


def test_without_an_upgrade_there_is_no_copy(make_app, tmp_path):
    make_app()
    (tmp_path / "blog.db.before-0001").unlink(missing_ok=True)
    make_app()
    make_app(DATABASE_URL=f"sqlite:///{tmp_path / 'new.db'}")
    assert copies(tmp_path) == []


@on_both
@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("raise OSError('No space left on device')", "No space left on device"),
        ("op.execute('INSERT INTO nowhere VALUES (1)')", "nowhere"),
        ("op.execute('DELETE FROM users WHERE id = 3')", "fk_|Rows would refer to nothing"),
    ],
)
def test_a_failed_step_leaves_the_database_as_it_was(
    make_app, next_release, database_url, tmp_path, end, reason
):
    before, names = content(database_url), tables(database_url)
    next_release(end)
    with pytest.raises(
        UpgradeError, match=f"Not upgraded, the database is as it was: .*({reason})"
    ):
        make_app()
    assert (content(database_url), tables(database_url)) == (before, names)
    assert copies(tmp_path) == []
    next_release()
    make_app()


def test_what_cannot_be_copied_is_not_upgraded(database_url, tmp_path):
    before = content(database_url)
    result = run("flask doctor", database_url, tmp_path, blocks=100)
    assert result.returncode == 1
    assert re.match(
        "Error: Not upgraded, .* (disk I/O error|database or disk is full)", result.stderr
    )
    assert content(database_url) == before
    assert list(tmp_path.glob("*copy*")) == copies(tmp_path) == []


@on_both
def test_a_database_of_a_newer_release_is_refused(
    make_app, next_release, database_url, monkeypatch
):
    next_release()
    make_app()
    newer = content(database_url)
    monkeypatch.setattr(database, "MIGRATIONS", MIGRATIONS)
    with pytest.raises(UpgradeError, match="newer release than this one"):
        make_app()
    assert content(database_url) == newer


def test_flask_refuses_a_newer_database_in_a_sentence(database_url, tmp_path):
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    result = run("flask doctor", database_url, tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: Not upgraded, the database is as it was: It is of a")
    assert len(result.stderr.splitlines()) == 1


def test_a_start_waits_for_a_long_upgrade_of_another(make_app, database_url, monkeypatch):
    """Longer than a writer waits for the others."""
    monkeypatch.setattr(database, "BUSY_MAX", 50)
    engine = sa.create_engine(database_url)
    with engine.connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        late = threading.Thread(target=make_app)
        late.start()
        late.join(1)
        assert late.is_alive()
    engine.dispose()
    late.join(10)
    assert content(database_url)["alembic_version"] == [("version_num",), (HEAD,)]


def test_alembic_by_hand_makes_a_copy_too(database_url, tmp_path):
    assert run("alembic upgrade head", database_url, tmp_path).returncode == 0
    assert content(database_url)["alembic_version"] == [("version_num",), (HEAD,)]
    assert (tmp_path / "blog.db.before-0001").is_file()
