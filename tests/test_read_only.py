"""A blog whose SQLite file lies on a disk that cannot be written."""

import re
import sqlite3
import sys
from contextlib import closing
from urllib.request import urlopen

import pytest
from conftest import Person, close
from test_config import PLAIN_USER, doctor
from test_server import Place, free_port, recipe, running

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path, make_app, database_url):
    """The folder of a blog with a post, made read-only; the settings that lead to it."""
    app = make_app()
    Person(app, "olga").sign_up().write("Still here")
    close(app)
    (tmp_path / "disk").mkdir()
    file = (tmp_path / "blog.db").rename(tmp_path / "disk" / "blog.db")
    yield {"BLOG_DATABASE_URL": f"sqlite:///{file}", "BLOG_SECRET_KEY": "only for tests"}
    file.parent.chmod(0o700)


def write_protect(tmp_path):
    (tmp_path / "disk" / "blog.db").chmod(0o400)
    (tmp_path / "disk").chmod(0o500)


def test_a_blog_on_a_disk_that_cannot_be_written_is_read(disk, tmp_path):
    write_protect(tmp_path)
    port = free_port()
    olga = Person(Place(f"http://127.0.0.1:{port}"), "olga")
    command = [*PLAIN_USER, sys.executable, *recipe()[1:]]
    with running(tmp_path, port, "--port", str(port), command=command, **disk):
        assert "Still here" in olga.get("/").text
        answer = olga.log_in()
    assert answer.status_code == 503
    assert "Nothing can be written on this blog at present" in answer.text


def test_the_doctor_says_that_nothing_can_be_written(disk, tmp_path):
    write_protect(tmp_path)
    result = doctor(*PLAIN_USER, **disk)
    assert result.returncode == 1
    assert re.search("Wrong: The database .* cannot be written", result.stdout)
    assert "Traceback" not in result.stderr


def test_an_upgrade_on_a_disk_that_cannot_be_written_is_refused_in_a_sentence(disk, tmp_path):
    with closing(sqlite3.connect(tmp_path / "disk" / "blog.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0005'")
    write_protect(tmp_path)
    result = doctor(*PLAIN_USER, **disk)
    assert result.returncode == 1
    assert re.fullmatch("Error: Not upgraded, the database is as it was: .*\n", result.stderr)


def test_changes_that_are_not_yet_in_the_file_are_not_passed_over(disk, tmp_path):
    (tmp_path / "disk" / "blog.db-wal").write_bytes(b"some changes")
    write_protect(tmp_path)
    result = doctor(*PLAIN_USER, **disk)
    assert result.returncode == 1
    assert re.fullmatch("Error: Not upgraded, the database is as it was: .*\n", result.stderr)


def test_what_another_process_writes_meanwhile_is_read(disk, tmp_path):
    with closing(sqlite3.connect(tmp_path / "disk" / "blog.db")) as writer:
        writer.execute("SELECT * FROM posts").fetchone()
        write_protect(tmp_path)
        port = free_port()
        command = [*PLAIN_USER, sys.executable, *recipe()[1:]]
        with running(tmp_path, port, "--port", str(port), command=command, **disk), writer:
            writer.execute("UPDATE posts SET title = 'Just changed'")
            writer.commit()
            with urlopen(f"http://127.0.0.1:{port}/") as answer:
                assert "Just changed" in answer.read().decode()


@pytest.mark.parametrize("modes", [(0o400, 0o700), (0o600, 0o500)])
def test_half_a_right_to_write_is_named(disk, tmp_path, modes):
    (tmp_path / "disk" / "blog.db").chmod(modes[0])
    (tmp_path / "disk").chmod(modes[1])
    result = doctor(*PLAIN_USER, **disk)
    assert result.returncode == 1
    assert re.search(
        "Wrong: The database .* cannot be written|Error: Not upgraded, the database is as it was: ",
        result.stdout + result.stderr,
    )
    assert "Traceback" not in result.stderr
