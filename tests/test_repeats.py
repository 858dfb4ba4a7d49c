"""Second clicks: the same text by the same person on the same form."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from conftest import PASSWORD, Person

from database import db
from models import REPEAT_MINUTES, Comment, Post

NEW = {"title": "A title", "body": "A text"}


def count(app, kind):
    with app.app_context():
        return db.session.scalar(sa.select(sa.func.count(kind.id)))


def age(app, kind):
    """Make all of that kind older than a second click."""
    with app.app_context():
        for row in db.session.scalars(sa.select(kind)):
            row.created_at -= timedelta(minutes=REPEAT_MINUTES)
        db.session.commit()


@pytest.mark.parametrize("action", ["publish", "draft"])
def test_a_post_that_is_sent_twice_is_one(app, ann, action):
    first, second = (ann.send("/posts/new", **NEW, action=action) for _ in range(2))
    assert first.location == second.location
    assert second.status_code == 303
    assert count(app, Post) == 1


def test_a_comment_that_is_sent_twice_is_one(app, ann):
    post = ann.write()
    assert ann.comment(post, "Twice\r\n") == ann.comment(post, "Twice\n")
    assert count(app, Comment) == 1


def test_others_other_forms_and_other_texts_are_not_the_same(app, ann, bob):
    post, other = ann.write(**NEW), ann.write("Other")
    bob.write(**NEW)
    ann.write(NEW["title"], "Other text")
    ann.comment(post), bob.comment(post), ann.comment(other), ann.comment(post, "Another.")
    assert count(app, Post) == 4
    assert count(app, Comment) == 4


def test_after_a_while_the_same_text_is_meant(app, ann):
    post = ann.write(**NEW)
    ann.comment(post)
    age(app, Post)
    age(app, Comment)
    assert ann.write(**NEW) != post
    ann.comment(post)
    assert count(app, Comment) == 2


def test_a_draft_that_is_sent_again_to_publish_is_published(app, ann, nobody):
    ann.send("/posts/new", **NEW, action="draft")
    path = ann.send("/posts/new", **NEW, tags="a", action="publish").location
    assert nobody.get(path).status_code == 200
    assert 'href="/tags/a"' in nobody.get(path).text
    assert count(app, Post) == 1


def test_what_differs_the_second_time_counts(app, ann, nobody):
    path = ann.send("/posts/new", **NEW, publish_at="2031-12-24T18:30", tags="a").location
    assert nobody.get(path).status_code == 404
    assert ann.send("/posts/new", **NEW, tags="b").location == path
    assert 'href="/tags/b"' in nobody.get(path).text
    ann.send("/posts/new", **NEW, action="draft")
    assert nobody.get(path).status_code == 404
    assert count(app, Post) == 1


def test_clicks_at_the_same_moment_are_one(app, ann):
    post = ann.write()
    clients = [Person(app, "ann") for _ in range(6)]
    assert [client.log_in(password=PASSWORD).status_code for client in clients] == [303] * 6
    [client.token() for client in clients]
    answers = []

    def click(client):
        answers.append(client.comment(post, "Once"))
        answers.append(client.write(**NEW))

    threads = [threading.Thread(target=click, args=[client]) for client in clients]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(answers) == 12
    assert len(set(answers)) == 2
    assert count(app, Comment) == 1
    assert count(app, Post) == 2
