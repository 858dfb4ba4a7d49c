"""The `flask …` commands."""

import re

import pytest
import sqlalchemy as sa
from conftest import PASSWORD, Person

import porting
from core import database
from core.database import db
from models import Comment, Post, User


def run(app, *words):
    return app.test_cli_runner().invoke(args=words)


def number_of(app, model):
    with app.app_context():
        return db.session.scalar(sa.select(sa.func.count()).select_from(model))


def test_demo_shows_what_the_blog_can_do(app, nobody):
    result = run(app, "demo")
    assert result.exit_code == 0
    page = nobody.get("/posts/1/test-blog").text.partition("<body>")[2]
    words = re.sub(r"\s+", " ", re.sub("<[^>]+>", "", page))
    places = [
        *("Home", "Log In", "Sign Up", "Cool Blog Name", "Test blog"),
        "Published on 2023 October 13 by abcxyz",
        "Commented on 2023-10-13 by abcxyz",
        "Commented on 2023-10-13 by myname",
        "Commented on 2023-10-13 by someone",
    ]
    found = [words.index(place) for place in places]
    assert found == sorted(found)


def test_the_people_of_the_demo_can_log_in(app):
    password = re.search(r"with the password (\S+)", run(app, "demo").output)[1]
    assert Person(app, "someone").log_in(password=password).status_code == 303


def test_every_page_of_the_demo_is_served(app, nobody):
    run(app, "demo")
    paths = re.findall(r'<h2 dir="auto"><a href="([^"]+)"', nobody.get("/").text)
    assert len(paths) == number_of(app, Post)
    assert {nobody.get(path).status_code for path in paths} == {200}


def test_demo_makes_bulk(app, nobody):
    result = run(app, "demo", "--posts", "1500", "--comments", "2500")
    assert result.exit_code == 0, result.output
    assert number_of(app, Post) > 1500
    assert number_of(app, Comment) > 2500
    assert 'rel="next"' in nobody.get("/").text


def test_demo_refuses_a_blog_in_use(app, ann):
    result = run(app, "demo")
    assert result.exit_code == 1
    assert "The blog is not empty" in result.output
    assert number_of(app, User) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--comments", "-5"], "range"),
        (["--posts", "-1"], "range"),
        (["--posts", "many"], "not a valid int"),
    ],
)
def test_demo_says_what_is_wrong_with_its_options(app, options, message):
    result = run(app, "demo", *options)
    assert result.exit_code == 2
    assert message in result.output
    assert number_of(app, User) == 0


def test_a_reset_link_is_printed_for_the_owner(app, make_app, owner):
    result = app.test_cli_runner().invoke(args=["reset-link", "OLGA"])
    base, _, token = result.output.strip().partition("/password/")
    assert base == "http://127.0.0.1:8000"
    assert owner.get(f"/password/{token}").status_code == 200
    public = (
        make_app(URL="https://blog.example/").test_cli_runner().invoke(args=["reset-link", "olga"])
    )
    assert public.output.startswith("https://blog.example/password/")
    nobody = app.test_cli_runner().invoke(args=["reset-link", "x"])
    assert "There is no account called x." in nobody.output
    assert nobody.exit_code == 1


@pytest.mark.parametrize(("may", "status"), [("post", 200), ("comment", 403)])
def test_an_invitation_is_printed(make_app, may, status):
    app = make_app(SIGNUP="invite")
    Person(app, "olga").sign_up()
    result = app.test_cli_runner().invoke(args=["invite", "--days", "2", "--may", may])
    ann = Person(app, "ann")
    path = result.output.strip().partition(":8000")[2]
    fields = {"username": "ann", "password": PASSWORD, "confirm": PASSWORD}
    answer = ann.client.post(path, data=fields | {"csrf_token": ann.token()})
    assert answer.status_code == 303
    assert ann.get("/posts/new").status_code == status


def test_nobody_is_invited_to_a_closed_blog(make_app):
    result = make_app(SIGNUP="closed").test_cli_runner().invoke(args=["invite"])
    assert result.exit_code == 1
    assert "Sign-up is closed" in result.output


def test_a_blog_is_exported_and_imported(app, ann, tmp_path):
    ann.comment(ann.write("First", tags="kafka"))
    file = str(tmp_path / "blog.zip")
    assert "Keep it to yourself" in run(app, "export", file).output.replace("keep", "Keep")
    again = run(app, "export", file)
    assert again.exit_code == 1
    assert "exists and was left alone" in again.output
    result = run(app, "import", file)
    assert result.exit_code == 0, result.output
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Post.id))) == 1


@pytest.mark.parametrize("text", [b"", b"PK\x03\x04 cut", b"Some text.", b"<rss><!DOCTYPE x>"])
def test_what_cannot_be_imported_changes_nothing(app, ann, tmp_path, text):
    (tmp_path / "file").write_bytes(text)
    result = run(app, "import", str(tmp_path / "file"))
    assert result.exit_code == 1
    assert "Nothing was imported" in result.output


def test_an_export_to_nowhere_says_so(app, tmp_path):
    result = run(app, "export", str(tmp_path / "none" / "blog.zip"))
    assert result.exit_code == 1
    assert "was not made" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("reset-link", "\udcff"),
        ("backup", "\udcfe.db"),
        ("export", "\udcfe.zip"),
        ("import", "--author", "\udcff", "."),
    ],
)
def test_an_argument_of_odd_bytes_is_refused_in_a_sentence(app, words):
    result = run(app, *words)
    assert result.exit_code == 2
    assert "An argument has bytes in it that are no text in UTF-8." in result.output


def test_a_file_with_an_odd_name_is_named_as_far_as_it_is_text(app, ann, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "\udcff.md").write_text("---\ntitle: No end")
    result = run(app, "import", str(tmp_path / "folder"))
    assert result.exit_code == 1
    assert "?.md: its front matter has no end." in result.output


@pytest.mark.parametrize("settings", [{}, {"URL": "https://blog.example"}])
def test_people_write_while_the_blog_is_exported(make_app, ann, tmp_path, monkeypatch, settings):
    monkeypatch.setattr(database, "BUSY_MAX", 100)
    post = ann.write()

    def meanwhile(things, *_):
        assert ann.comment(post)
        return things

    monkeypatch.setattr(porting, "progress", meanwhile)
    result = run(make_app(**settings), "export", str(tmp_path / "blog.zip"))
    assert result.exit_code == 0, result.output


def test_an_export_that_is_broken_off_leaves_nothing(app, ann, tmp_path, monkeypatch):
    def break_off(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(porting, "progress", break_off)
    assert run(app, "export", str(tmp_path / "blog.zip")).exit_code == 1
    assert not (tmp_path / "blog.zip").exists()
