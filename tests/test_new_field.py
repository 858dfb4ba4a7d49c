"""The recipe of CONTRIBUTING.md for a new field, step by step, on a copy of the project."""

import os
import re
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
    flask_alembic(project, database_url, "revision", "--autogenerate", "-m", "subtitle and town")
    flask_alembic(project, database_url, "upgrade", "head")
    assert rows(database_url, "SELECT subtitle FROM posts") == [("",)]
    assert rows(database_url, "SELECT town FROM users") == [(None,)]
    assert rows(database_url, "SELECT name FROM tags") == [("kept",)]
    flask_alembic(project, database_url, "downgrade", "-1")
    assert schema(database_url) == before
    assert rows(database_url, "SELECT body FROM comments") == [("A comment.",)]


def add_fields(models):
    """Add the fields of the recipe under the last one of their classes."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text()
    subtitle = re.search("`(subtitle: Mapped.*?)`", recipe)[1]
    town = re.search("`(town: Mapped.*?)`", recipe)[1]
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
