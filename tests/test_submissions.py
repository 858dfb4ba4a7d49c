"""Second clicks, Back, and two tabs: one submission is one text."""

import re
import threading

import pytest
import sqlalchemy as sa
from conftest import Person, on_both

from core.database import db
from models import Comment, Post

NEW = {"title": "A title", "body": "A text", "submission": "the-first-form"}


def count(app, kind):
    with app.app_context():
        return db.session.scalar(sa.select(sa.func.count(kind.id)))


def submission_in(page):
    return re.search('name="submission"[^>]* value="([^"]+)"', page.text)[1]


@pytest.mark.parametrize("action", ["publish", "draft"])
def test_a_post_that_is_sent_twice_is_one(app, ann, action):
    first, second = (ann.send("/posts/new", **NEW, action=action) for _ in range(2))
    assert first.location == second.location
    assert second.status_code == 303
    assert count(app, Post) == 1


def test_a_comment_that_is_sent_twice_is_one(app, ann):
    ann.write()
    form = {"submission": submission_in(ann.get("/posts/1/a-title"))}
    first = ann.send("/posts/1/comments", body="Twice\r\n", **form)
    assert ann.send("/posts/1/comments", body="Twice\n", **form).location == first.location
    assert count(app, Comment) == 1


def test_two_tabs_are_two_posts(app, ann):
    tabs = [submission_in(ann.get("/posts/new")) for _ in range(2)]
    paths = {ann.write("Same", "Same", submission=tab) for tab in tabs}
    assert len(paths) == count(app, Post) == 2


def test_the_form_of_a_new_post_is_not_cached(ann):
    assert not ann.get("/posts/new").headers.get("ETag")


def test_another_text_from_the_same_form_is_another_comment(app, ann):
    """A cached page gives two tabs the same value."""
    ann.write()
    tabs = [submission_in(ann.get("/posts/1/a-title")) for _ in range(2)]
    paths = [
        ann.send("/posts/1/comments", body=f"Number {n}", submission=tab).location
        for n, tab in enumerate(tabs)
    ]
    assert len(set(paths)) == count(app, Comment) == 2


def test_an_old_form_changes_no_comment(app, ann, bob):
    post = ann.write()
    form = {"submission": "one"}
    bob.send("/posts/1/comments", body="First", **form)
    bob.send("/comments/1/edit", body="Edited")
    assert bob.send("/posts/1/comments", body="First", **form).location.endswith("#comment-1")
    assert "Edited" in bob.get(post).text
    assert "First" not in bob.get(post).text


@pytest.mark.parametrize("form", [{}, {"submission": ""}, {"submission": "not one!"}], ids=str)
def test_without_a_value_every_text_is_another(app, ann, form):
    ann.write(**form), ann.write(**form)
    [ann.send("/posts/1/comments", body="Same", **form) for _ in range(2)]
    assert (count(app, Post), count(app, Comment)) == (2, 2)


def test_a_value_is_its_authors_own(app, ann, bob):
    path = ann.write(**NEW)
    assert bob.write(**NEW | {"title": "Of bob"}) != path
    [person.send("/posts/1/comments", body="Same", submission="x") for person in (ann, bob)]
    assert (count(app, Post), count(app, Comment)) == (2, 2)
    assert "A title" in ann.get(path).text


def test_a_draft_that_is_sent_again_to_publish_is_published(app, ann, nobody):
    ann.send("/posts/new", **NEW, action="draft")
    path = ann.send("/posts/new", **NEW, tags="a", action="publish").location
    assert nobody.get(path).status_code == 200
    assert 'href="/tags/a"' in nobody.get(path).text
    assert count(app, Post) == 1


def test_what_differs_the_second_time_counts(app, ann, nobody):
    """Back, a correction, and Publish once more."""
    path = ann.send("/posts/new", **NEW, publish_at="2031-12-24T18:30", tags="a").location
    assert nobody.get(path).status_code == 404
    path = ann.send("/posts/new", **NEW | {"title": "Corrected"}, tags="b").location
    assert path == "/posts/1/corrected"
    assert 'href="/tags/b"' in nobody.get(path).text
    assert ann.send("/posts/new", **NEW | {"body": "Better"}).location == "/posts/1/a-title"
    assert "Better" in nobody.get("/posts/1/a-title").text
    ann.send("/posts/new", **NEW, action="draft")
    assert nobody.get("/posts/1/a-title").status_code == 404
    assert count(app, Post) == 1


def test_what_was_edited_elsewhere_is_not_overwritten_by_the_old_form(ann, nobody):
    path = ann.write(**NEW)
    ann.send("/posts/1/edit", title="A title", body="Edited elsewhere")
    answer = ann.send("/posts/new", **NEW | {"body": "From the old form"})
    assert answer.status_code == 409
    assert "From the old form" in answer.text
    assert "Edited elsewhere" in nobody.get(path).text


def test_after_the_conflict_the_next_click_saves(ann, nobody):
    path = ann.write(**NEW)
    ann.send("/posts/1/edit", title="A title", body="Edited elsewhere")
    page = ann.send("/posts/new", **NEW | {"body": "From the old form"}).text
    action = re.search('<form[^>]* action="([^"]+)"', page)
    version = re.search(r'name="version"[^>]* value="(\w+)"', page)[1]
    assert action
    fields = NEW | {"body": "From the old form", "version": version}
    assert ann.send("/posts/1/edit", **fields).status_code == 303
    assert "From the old form" in nobody.get(path).text


@on_both
def test_clicks_at_the_same_moment_are_one(app, ann):
    post = ann.write()
    clients = [Person(app, "ann") for _ in range(6)]
    assert [client.log_in().status_code for client in clients] == [303] * 6
    [client.token() for client in clients]
    answers = []

    def click(client):
        form = {"body": "Once", "submission": "same"}
        answers.append(client.send("/posts/1/comments", **form).location)
        answers.append(client.write(**NEW))

    threads = [threading.Thread(target=click, args=[client]) for client in clients]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(answers) == 12
    assert len(set(answers)) == 2
    assert post in ann.get("/").text
    assert count(app, Comment) == 1
    assert count(app, Post) == 2
