"""The extra of docs/extras.md: built from the page, upgraded, removed; in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import on_both
from test_new_field import ROOT, SOURCES, flask_alembic, rows

PAGE = (ROOT / "docs" / "extras.md").read_text()
# Signs up, writes a post and likes it twice; prints the post's page and the home page.
LIKE = """
import re, sys
from app import create_app

app = create_app(sys.argv[1], RATE_LIMITS="off")
client = app.test_client()

def send(path, **fields):
    page = client.get("/login").text
    fields["csrf_token"] = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page)[1]
    return client.post(path, data=fields).status_code

if len(sys.argv) > 2:
    word = "correct horse 9"
    assert send("/signup", username="olga", password=word, confirm=word) == 303
    assert send("/posts/new", title="A title", body="x", action="publish") == 303
    assert [send("/posts/1/like") for _ in range(2)] == [303, 303]
print(client.get("/posts/1/a-title").text, client.get("/").text)
"""
NEXT = '''
"""A step of the next release."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "%s"


def upgrade():
    op.add_column("users", sa.Column("town", sa.String))
'''


def run(project, url, extras, *words):
    """What the script prints."""
    environment = {"BLOG_DATABASE_URL": url, "BLOG_SECRET_KEY": "x", "BLOG_EXTRAS": extras}
    command = [sys.executable, "-c", LIKE, str(project / "instance"), *words]
    options = {"cwd": project, "env": os.environ | environment, "capture_output": True}
    result = subprocess.run(command, text=True, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def code(path):
    """The block of code of the page that is to be saved as that file."""
    return re.search(rf"`{re.escape(path)}`[\s\S]*?```\w+\n([\s\S]*?)```", PAGE)[1]


FILES = re.findall(r"`((?:extras|templates|migrations)/[\w/]*likes[\w/]*\.\w+)`", PAGE)


@pytest.mark.slow
@on_both
def test_the_likes_of_the_page_work_survive_a_release_and_go(app, database_url, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=SOURCES)
    (project / "templates" / "likes").mkdir()
    [(project / path).write_text(code(path)) for path in FILES]
    assert "<span>1 like</span>" in run(project, database_url, "all,likes", "new")

    head = re.search(r'revision = "(\w+)"', newest(project).read_text())[1]
    (project / "migrations" / "versions" / "9999_next.py").write_text(NEXT % head)
    copies = list(tmp_path.glob("blog.db.before-*"))
    page = run(project, database_url, "all,likes")
    assert page.count("1 like") == 2
    run(project, database_url, "all,likes")
    assert len(list(tmp_path.glob("blog.db.before-*"))) == 2 * len(copies)
    assert rows(database_url, "SELECT town FROM users") == [(None,)]

    flask_alembic(project, database_url, "downgrade", "likes@base")
    [(project / path).unlink() for path in FILES]
    assert "like" not in run(project, database_url, "all")
    assert rows(database_url, "SELECT version_num FROM alembic_version") == [("9999",)]


def newest(project):
    """The file of the newest migration of the blog itself."""
    return max((project / "migrations" / "versions").glob("0*.py"))


def test_the_extra_of_the_page_is_short():
    extra, migration = FILES[:-1], FILES[-1]
    assert migration.startswith("migrations/")
    assert len(extra) == 3
    assert sum(len(code(path).splitlines()) for path in extra) < 60
