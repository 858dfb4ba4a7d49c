"""Commenting, and who may change a comment."""

import re
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from core import rendering
from core.database import db
from forms import COMMENT_MAX
from models import COUNT_MAX, Comment, Post


def age(app, minutes):
    """Make every comment that old."""
    with app.app_context():
        at = datetime.now(UTC) - timedelta(minutes=minutes)
        db.session.execute(sa.update(Comment).values(created_at=at))
        db.session.commit()


def test_a_comment_is_shown_and_landed_on(ann, bob, nobody):
    post = ann.write()
    there = bob.comment(post, "Well *said*.\nReally.")
    assert there == f"{post}#comment-1"
    page = nobody.get(post).text
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    assert re.search(
        rf'Commented on\s+<time datetime="[^"]+">{day}</time> by\s+<a [^>]+>bob<', page
    )
    assert "Well <em>said</em>.<br>\nReally." in page
    assert ", edited" not in page


def test_comments_stand_oldest_first(ann, bob, nobody):
    post = ann.write()
    bob.comment(post, "Premier")
    ann.comment(post, "Deuxième")
    page = nobody.get(post).text
    assert page.index("Premier") < page.index("Deuxième")
    assert "2 comments" in page


def test_a_visitor_is_led_to_log_in_and_back_to_the_box(ann, nobody):
    post = ann.write()
    page = nobody.get(post).text
    assert 'method="post"' not in page
    assert f'<a href="/login?next={post}%23write">Log in to comment</a>' in page
    assert 'id="write"' in ann.get(post).text


def test_a_comment_has_neither_images_nor_headings(ann, nobody):
    post = ann.write()
    ann.comment(post, "# Big\n\nBig\n===\n\n![x](https://example.org/x.png)")
    comment = nobody.get(post).text.partition('id="comment-1"')[2]
    assert "<img" not in comment
    assert "<h" not in comment


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "Write something."),
        (" \r\n\t ", "Write something."),
        ("\u200b\u200b", "Write something."),
        ("x" * 5001, "It has 5,001 characters; it can have 1 to 5,000."),
    ],
)
def test_a_refused_comment_comes_back_with_its_post(ann, body, message):
    ann.write("The post")
    answer = ann.send("/posts/1/comments", body=body)
    assert answer.status_code == 422
    assert message in answer.text
    assert "The post" in answer.text
    assert body.strip(" \r\n\t\u200b") in answer.text


def test_line_ends_are_counted_once(ann):
    post = ann.write()
    assert ann.comment(post, "x\r\n" * 2500)


def test_a_comment_on_a_deleted_post_comes_back(ann):
    answer = ann.send("/posts/7/comments", body="Typed at length.")
    assert answer.status_code == 404
    assert "Typed at length." in answer.text


def test_an_author_edits_a_comment_while_it_is_fresh(app, ann, bob, nobody):
    post = ann.write()
    bob.comment(post, "Befroe")
    assert "Befroe" in bob.get("/comments/1/edit").text
    assert bob.send("/comments/1/edit", body="Before").location == f"{post}#comment-1"
    page = nobody.get(post).text
    assert "Before" in page
    assert ", edited" in page
    age(app, minutes=14)
    assert bob.get("/comments/1/edit").status_code == 200


def test_a_comment_saved_as_it_was_is_not_edited(ann, nobody):
    post = ann.write()
    ann.comment(post, "Same")
    ann.send("/comments/1/edit", body="Same")
    assert ", edited" not in nobody.get(post).text


def test_an_old_comment_cannot_be_edited_but_the_text_comes_back(app, ann):
    post = ann.write()
    ann.comment(post, "First")
    age(app, minutes=16)
    answer = ann.send("/comments/1/edit", body="Second thoughts")
    assert answer.status_code == 403
    assert "and for 15 minutes" in answer.text
    assert "Second thoughts" in answer.text
    assert "Edit comment" not in ann.get(post).text
    assert "Delete comment" in ann.get(post).text


@pytest.mark.parametrize("who", ["ann", "owner"])
def test_nobody_else_edits_a_comment(request, ann, bob, who):
    bob.comment(ann.write(), "Mine")
    somebody = request.getfixturevalue(who)
    assert somebody.get("/comments/1/edit").status_code == 403
    assert somebody.send("/comments/1/edit", body="Changed").status_code == 403
    assert "Changed" not in somebody.get("/posts/1/a-title").text


@pytest.mark.parametrize("who", ["ann", "bob", "owner"])
def test_its_author_the_posts_author_and_the_owner_delete_a_comment(request, app, ann, bob, who):
    post = ann.write()
    bob.comment(post, "Short-lived")
    age(app, minutes=60)
    somebody = request.getfixturevalue(who)
    assert "Short-lived" in somebody.get("/comments/1/delete").text
    assert somebody.send("/comments/1/delete").location == f"{post}#comments"
    assert "Short-lived" not in somebody.get(post).text


def test_a_stranger_cannot_delete_a_comment(ann, bob):
    post = ann.write()
    ann.comment(post, "Stays")
    assert "Delete comment" not in bob.get(post).text
    assert bob.get("/comments/1/delete").status_code == 403
    assert bob.send("/comments/1/delete").status_code == 403
    assert "Stays" in bob.get(post).text


def test_the_number_of_a_deleted_comment_is_not_used_again(ann):
    post = ann.write()
    ann.comment(post)
    ann.send("/comments/1/delete")
    assert ann.comment(post).endswith("#comment-2")


def test_a_text_that_is_too_long_is_not_even_rendered(ann, monkeypatch):
    ann.write()
    monkeypatch.setattr(rendering, "markdown", None)
    assert ann.send("/posts/1/comments", body="*" * (COMMENT_MAX + 1)).status_code == 422


def test_no_more_comments_are_counted_than_are_shown_as_a_number(app, ann, nobody):
    post = ann.write()
    with app.app_context():
        db.session.add_all(Comment(post_id=1, author_id=1, body=f"{n}") for n in range(1_010))
        db.session.commit()
        query = sa.select(Post.comment_count).select_from(Post)
        assert db.session.scalar(query) == COUNT_MAX + 1
    assert "1,000+ comments" in nobody.get("/").text
    assert "1,000+ comments" in nobody.get(post).text
    assert "1,000+ comments" in ann.get("/posts/1/delete").text


def numbers(page):
    return [int(text) for text in re.findall("<p>Number ([0-9]+)</p>", page)]


def test_a_page_has_the_newest_thousand_comments_and_leads_to_older_ones(app, ann, nobody):
    post = ann.write()
    with app.app_context():
        rows = [Comment(post_id=1, author_id=1, body=f"Number {n}") for n in range(1_010)]
        db.session.add_all(rows)
        db.session.commit()
    newest = nobody.get(post).text
    assert numbers(newest) == list(range(10, 1_010))
    link = re.search('rel="prev" href="([^"]+)#comments"', newest)[1]
    older = nobody.get(link).text
    assert numbers(older) == list(range(10))
    assert 'rel="prev"' not in older
    assert f'href="{post}#comments"' in older


@pytest.mark.parametrize("before", ["x", "-1", "0x1", "9" * 30, ""])
def test_nonsense_leads_to_the_newest_comments(ann, nobody, before):
    post = ann.write()
    ann.comment(post, "Number 1")
    answer = nobody.get(f"{post}?before={before}")
    assert (answer.status_code, numbers(answer.text)) == (200, [1])
