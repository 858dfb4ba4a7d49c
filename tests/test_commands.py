"""The `flask …` commands."""

import re

import pytest
import sqlalchemy as sa
from conftest import Person

from database import db
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
