"""Where settings come from."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import close

from app import create_app


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A function that makes a blog in an instance folder of this test's own."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    apps = []

    def make(**settings):
        apps.append(create_app(str(tmp_path / "instance"), **settings))
        return apps[-1]

    yield make
    [close(app) for app in apps]


def test_a_blog_needs_no_settings(make, tmp_path):
    app = make()
    assert app.config["NAME"] == "Cool Blog Name"
    assert app.config["SQLALCHEMY_DATABASE_URI"] == "sqlite:///blog.db"
    assert (tmp_path / "instance" / "blog.db").is_file()
    assert '<html lang="en">' in app.test_client().get("/").text


def test_the_environment_goes_over_the_file_and_keywords_over_both(make, tmp_path, monkeypatch):
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "config.toml").write_text(
        'NAME = "file"\nDESCRIPTION = "file"\nLANGUAGE = "de"'
    )
    monkeypatch.setenv("BLOG_NAME", "environment")
    monkeypatch.setenv("BLOG_DESCRIPTION", "environment")
    page = make(NAME="keyword").test_client().get("/").text
    assert "<title>keyword</title>" in page
    assert '<meta name="description" content="environment">' in page
    assert '<html lang="de">' in page


def test_the_key_is_made_once_and_is_nobody_elses_business(make, tmp_path):
    first, second = make(), make()
    key = tmp_path / "instance" / "secret_key"
    assert first.config["SECRET_KEY"] == second.config["SECRET_KEY"] == key.read_text()
    assert len(key.read_text()) == 64
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert len(list(key.parent.iterdir())) <= 4


def test_a_key_of_digits_works(make, monkeypatch):
    monkeypatch.setenv("BLOG_SECRET_KEY", "12345678")
    assert make().test_client().get("/login").status_code == 200


def test_the_cookies_of_two_blogs_on_one_host_are_two(make):
    names = [
        make(SECRET_KEY=key).config["SESSION_COOKIE_NAME"] for key in ("a", "a", "b", "c" * 99)
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert all(re.fullmatch("blog_session_[0-9a-f]{8}", name) for name in names)


def test_a_cookie_can_be_called_anything(make, monkeypatch):
    monkeypatch.setenv("BLOG_SESSION_COOKIE_NAME", "biscuit")
    client = make().test_client()
    assert client.get("/login").headers["Set-Cookie"].startswith("biscuit=")
    assert "<code>biscuit</code>" in client.get("/privacy").text


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_either_name_of_postgresql_is_taken(postgresql, make, monkeypatch, scheme):
    _, _, rest = postgresql.format("postgres").partition("://")
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://{rest}")
    assert make().test_client().get("/healthz").status_code == 200


def test_the_blogs_own_database_variable_goes_over_the_plain_one(make, monkeypatch, tmp_path):
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere.invalid/")
    monkeypatch.setenv("BLOG_DATABASE_URL", f"sqlite:///{tmp_path / 'mine.db'}")
    make()
    assert (tmp_path / "mine.db").is_file()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIMEZONE", "Mars/Olympus"),
        ("TIMEZONE", "../../etc/passwd"),
        ("TIMEZONE", ""),
        ("TIMEZONE", 1),
        ("PROXIES", "one"),
        ("PROXIES", -1),
        ("PROXIES", True),
        ("URL", "blog.example"),
        ("URL", "https://"),
        ("NEW_ACCOUNTS_MAY", "edit"),
    ],
)
def test_a_wrong_setting_is_named(make, name, value):
    with pytest.raises(ValueError, match=f"BLOG_{name}"):
        make(**{name: value})


def test_the_blog_says_its_name_and_line(make):
    page = make(NAME="Zoë & Co", DESCRIPTION="About <things>").test_client().get("/").text
    assert "<title>Zoë &amp; Co</title>" in page
    assert '<meta name="description" content="About &lt;things&gt;">' in page


@pytest.mark.parametrize("name", ["1984", "null", "1e3", "007", '"so-called"'])
def test_a_name_may_look_like_anything(make, monkeypatch, name):
    monkeypatch.setenv("BLOG_NAME", name)
    client = make().test_client()
    assert client.get("/feed.json").json["title"] == name


def test_a_command_says_which_setting_is_wrong_in_a_sentence():
    environment = os.environ | {"BLOG_SIGNUP": "perhaps"}
    command = [sys.executable, "-m", "flask", "doctor"]
    options = {"cwd": Path(__file__).parent.parent, "capture_output": True, "text": True}
    result = subprocess.run(command, env=environment, **options)
    assert result.returncode == 1
    assert result.stderr == "Error: BLOG_SIGNUP is one of these words: open invite closed.\n"
