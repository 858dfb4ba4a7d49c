"""Where settings come from."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import USER, close

from app import create_app
from core.config import SettingError

ROOT = Path(__file__).parents[1]
# Root without its right to read and write whatever belongs to others, or cannot be written.
PLAIN_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]


def doctor(*words, cwd=ROOT, **environment):
    """`flask doctor` in a process of its own: where an error is a sentence."""
    command = [*words, sys.executable, "-m", "flask", "--app", ROOT / "wsgi.py", "doctor"]
    environment = os.environ | environment
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


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
    assert stat.S_IMODE((tmp_path / "instance" / "blog.db").stat().st_mode) == 0o600
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
        ("PORT", 70000),
        ("THREADS", 0),
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
    result = doctor(BLOG_SIGNUP="perhaps")
    assert result.returncode == 1
    assert result.stderr == "Error: BLOG_SIGNUP is one of these words: open invite closed.\n"


def test_another_folder_can_be_the_instance_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("BLOG_INSTANCE", str(tmp_path / "mine" / "blog"))
    close(create_app())
    names = {path.name for path in (tmp_path / "mine" / "blog").iterdir()}
    assert names >= {"blog.db", "secret_key"}
    assert stat.S_IMODE((tmp_path / "mine" / "blog").stat().st_mode) == 0o700


def test_an_instance_folder_without_a_slash_lies_in_the_folder_of_the_blog(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BLOG_INSTANCE", "mine")
    app = create_app(SECRET_KEY="x", DATABASE_URL=f"sqlite:///{tmp_path / 'blog.db'}")
    close(app)
    assert app.instance_path == str(ROOT / "mine")


def test_the_instance_folder_is_made_when_something_is_written(make, tmp_path, postgresql):
    make(SECRET_KEY="x", DATABASE_URL=postgresql.format("postgres")).test_client().get("/")
    assert not (tmp_path / "instance").exists()


@pytest.mark.parametrize(
    ("modes", "name"), [((0o000, 0o700), "instance"), ((0o700, 0o000), "instance/config.toml")]
)
def test_a_folder_or_file_of_another_user_is_named(tmp_path, modes, name):
    folder = tmp_path / "instance"
    folder.mkdir()
    (folder / "config.toml").touch(mode=modes[1])
    folder.chmod(modes[0])
    result = doctor(*PLAIN_USER, BLOG_INSTANCE=str(folder))
    folder.chmod(0o700)
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: {tmp_path / name} cannot be used: Permission denied. Let the blog's user write "
        "in that folder, or name another in BLOG_INSTANCE.\n"
    )


def test_an_instance_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "instance").mkdir(mode=0o500)
    result = doctor(*PLAIN_USER, BLOG_INSTANCE=str(tmp_path / "instance"))
    assert result.returncode == 1
    assert f"{tmp_path}/instance cannot be used: Permission denied." in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_that_cannot_be_written_is_fine_where_nothing_is(tmp_path):
    (tmp_path / "instance").mkdir(mode=0o500)
    settings = {
        "BLOG_INSTANCE": str(tmp_path / "instance"),
        "BLOG_SECRET_KEY": "x",
        "BLOG_DATABASE_URL": f"sqlite:///{tmp_path / 'blog.db'}",
    }
    assert doctor(*PLAIN_USER, **settings).returncode == 0


def test_a_key_is_made_on_disks_without_hard_links(make, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert make().config["SECRET_KEY"] == make().config["SECRET_KEY"]
    key = tmp_path / "instance" / "secret_key"
    assert len(key.read_text()) == 64
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_an_empty_key_is_an_error(make, tmp_path):
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "secret_key").write_text("\n")
    with pytest.raises(SettingError, match=r"secret_key is empty\. Put the key back"):
        make()


def test_a_key_can_be_any_bytes(make, tmp_path):
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "secret_key").write_bytes(bytes(range(256)))
    assert make().test_client().get("/login").status_code == 200


def test_an_instance_folder_in_no_home_is_named(monkeypatch):
    monkeypatch.setenv("BLOG_INSTANCE", "~nobody-of-that-name/blog")
    with pytest.raises(SettingError, match="BLOG_INSTANCE begins with ~"):
        create_app()


def test_a_file_of_settings_that_is_not_toml_is_named(make, tmp_path):
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "config.toml").write_text("NAME = My blog")
    with pytest.raises(SettingError, match=r"config\.toml is not in TOML: .*line 1"):
        make()


@pytest.mark.parametrize("name", ["BLOG_DATABASE_URL", "DATABASE_URL"])
@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_url_of_the_database_is_an_error(make, monkeypatch, name, value):
    monkeypatch.delenv("BLOG_DATABASE_URL", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=f"^{name} is set, but empty. Unset it"):
        make()


def test_settings_are_read_from_a_file_of_the_environment(tmp_path):
    (tmp_path / ".env").write_text("BLOG_SIGNUP=perhaps\n")
    result = doctor(cwd=tmp_path)
    assert result.stderr == "Error: BLOG_SIGNUP is one of these words: open invite closed.\n"


# The part of the URL, and what is wrong with it.
WRONG_URLS = [
    ("begins with mysql://", "mysql://host/name"),
    ("begins with Postgres://", "Postgres://host/name"),
    ("begins with postgresql\\+psycopg2://", "postgresql+psycopg2://host/name"),
    ("has no scheme", "blog.db"),
    ("has no scheme", "postgresql:/host/name"),
    ("names no file", "sqlite://"),
    ("names no file", "sqlite:///:memory:"),
    ("names no file", "sqlite://blog.db"),
    ("There is no folder .*/instance/none for the database", "sqlite:///none/blog.db"),
    ("wrong port", "postgresql://u:secret@127.0.0.1:five/name"),
    ("an @ in its password", "postgresql://u:sec@ret@127.0.0.1/name"),
    ("an @ in its password", "postgresql://u:sec@r/et@127.0.0.1/name"),
    ("its host: .*nowhere.invalid", "postgresql://u:secret@nowhere.invalid/name"),
    ("its host or port: .*refused", "postgresql://u:secret@127.0.0.1:1/name"),
    ("its port: .*99999", "postgresql://u:secret@127.0.0.1:99999/name"),
    ("its options after the \\?: .*schema", "postgresql://u:secret@127.0.0.1/name?schema=public"),
    ("its TLS: .*sslmode", "postgresql://u:secret@127.0.0.1/name?sslmode=perhaps"),
]


@pytest.mark.parametrize(("sentence", "url"), WRONG_URLS, ids=[url for _, url in WRONG_URLS])
def test_the_part_of_the_databases_url_that_is_wrong_is_named(make, sentence, url):
    with pytest.raises(SettingError, match=sentence) as raised:
        make(DATABASE_URL=url)
    assert "sec" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("sentence", "old", "new"),
    [
        ("user or password: .*stranger", "blog@", "stranger:secret@"),
        ("name of the database: .*absent", "/postgres", "/absent"),
    ],
)
def test_what_a_postgresql_server_refuses_is_named(make, postgresql, sentence, old, new):
    url = postgresql.format("postgres").replace(old, new)
    with pytest.raises(SettingError, match=sentence) as raised:
        make(DATABASE_URL=url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("sentence", "rest"),
    [
        ("user or password: .*password", f"{quote(USER)}:wrong@127.0.0.1:{{}}/postgres"),
        ("user or password: .*password", f"{quote(USER)}@127.0.0.1:{{}}/postgres"),
        ("TLS: .*SSL", f"{quote(USER)}:wrong@127.0.0.1:{{}}/postgres?sslmode=require"),
    ],
)
def test_what_a_postgresql_server_wants_is_named(make, strict_server, sentence, rest):
    port, _ = strict_server
    with pytest.raises(SettingError, match=sentence):
        make(DATABASE_URL=f"postgresql://{rest.format(port)}")


@pytest.mark.parametrize("url", ["mysql://host/name", "postgresql://u:secret@127.0.0.1:1/name"])
def test_a_wrong_url_of_the_database_is_a_sentence_for_people(url):
    result = doctor(BLOG_DATABASE_URL=url)
    assert result.returncode == 1
    assert re.fullmatch(r"Error: BLOG_DATABASE_URL .*\.\n", result.stderr)


def test_the_lack_of_a_driver_is_a_sentence(tmp_path):
    (tmp_path / "psycopg.py").write_text("raise ModuleNotFoundError('No module named psycopg')")
    result = doctor(BLOG_DATABASE_URL="postgresql://host/name", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr == "Error: PostgreSQL needs a driver here: pip install psycopg\n"
