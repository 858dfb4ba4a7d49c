"""The recipe of CONTRIBUTING.md for a new field, step by step, on a copy of the project."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import sqlalchemy as sa
from conftest import on_both
from test_backup import ROOT
from test_release_before import schema

SOURCES = shutil.ignore_patterns(".*", "node_modules", "tests", "bench", "instance", "__pycache__")


@pytest.mark.slow
@on_both
def test_the_recipe_for_a_new_field_works_there_and_back(app, owner, database_url, tmp_path):
    owner.comment(owner.write(tags="kept"))
    before = schema(database_url)
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=SOURCES)
    add_fields(project / "models.py")
    words = shlex.split(re.search("alembic (revision --autogenerate .*)", RECIPE)[1])
    flask_alembic(project, database_url, *words)
    flask_alembic(project, database_url, "upgrade", "head")
    assert rows(database_url, "SELECT subtitle FROM posts") == [("",)]
    assert rows(database_url, "SELECT town FROM users") == [(None,)]
    assert rows(database_url, "SELECT name FROM tags") == [("kept",)]
    add_lines(project)
    assert "Seen on the page" in run(project, database_url)
    flask_alembic(project, database_url, "downgrade", "-1")
    assert schema(database_url) == before
    assert rows(database_url, "SELECT body FROM comments") == [("A comment.",)]


RECIPE = (ROOT / "CONTRIBUTING.md").read_text()
# Logs in, changes the subtitle and then only the title; prints the post.
EDIT = """
import re, sys
from app import create_app

client = create_app(sys.argv[1]).test_client()

def send(path, **fields):
    page = client.get(path).text
    hidden = re.findall(r'name="(csrf_token|version)"[^>]* value="([^"]+)"', page)
    typed = re.findall(r'name="(subtitle)"[^>]* value="([^"]+)"', page)
    return client.post(path, data=dict(hidden) | dict(typed) | fields).status_code

assert send("/login", username="olga", password="correct horse 9") == 303
text = {"body": "x", "action": "publish"}
assert send("/posts/1/edit", title="One", subtitle="Seen on the page", **text) == 303
assert send("/posts/1/edit", title="Two", **text) == 303
print(client.get("/posts/1/two").text)
"""


def line(pattern):
    """The line of code in the recipe that the pattern finds."""
    return re.search(f"`({pattern})`", RECIPE)[1]


def add_lines(project):
    """Add the lines by which the subtitle can be typed and read."""
    models, templates = project / "models.py", project / "templates" / "posts"
    text = models.read_text()
    models.write_text(re.sub("TEXT_FIELDS = .*?\\)", line("TEXT_FIELDS.*?"), text))
    add_above(project / "forms.py", '    body = TextField("Text"', line("subtitle = LineField.*?"))
    add_above(templates / "form.html", "  {{ body_field(", line("{{ show_field.form.subtitle.*?"))
    add_above(templates / "show.html", "    {{ byline(post) }}", line("<p dir.*?"))


def add_above(path, anchor, added):
    """Add a line, as deep as the one that begins with the anchor."""
    text, depth = path.read_text(), len(anchor) - len(anchor.lstrip())
    assert text.count(anchor) == 1
    path.write_text(text.replace(anchor, f"{anchor[:depth]}{added}\n{anchor}"))


def run(project, url):
    """What the script prints."""
    environment = os.environ | {"BLOG_DATABASE_URL": url, "BLOG_SECRET_KEY": "x"}
    command = [sys.executable, "-c", EDIT, str(project / "instance")]
    options = {"cwd": project, "env": environment, "capture_output": True, "text": True}
    result = subprocess.run(command, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def add_fields(models):
    """Add the fields of the recipe under the last one of their classes."""
    subtitle, town = line("subtitle: Mapped.*?"), line("town: Mapped.*?")
    text = models.read_text()
    text = re.sub("(    invitation: Mapped.*\n)", rf"\1    {town}\n", text)
    text = re.sub("(    comments_closed: Mapped.*\n)", rf"\1    {subtitle}\n", text)
    models.write_text(text)


def flask_alembic(project, url, *words):
    environment = os.environ | {"BLOG_DATABASE_URL": url, "BLOG_SECRET_KEY": "x"}
    command = [sys.executable, "-m", "alembic", *words]
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def rows(url, query):
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        found = connection.exec_driver_sql(query).all()
    engine.dispose()
    return [tuple(row) for row in found]
