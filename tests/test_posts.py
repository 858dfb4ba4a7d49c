"""Writing, reading, editing and deleting posts, and the lists of them."""

import re
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from core.database import atomic, db
from models import PAGE_SIZE, Comment, Post, User


def add_posts(app, count, author="olga"):
    """Posts 1 to count, one a day from 2023-10-13, two of them at the same moment."""
    with app.app_context(), atomic():
        author_id = db.session.scalar(User.named(author)).id
        for number in range(count):
            day = datetime(2023, 10, 13, tzinfo=UTC) + timedelta(days=max(number, 1))
            fields = {"title": f"No {number}", "body": "x", "tags": ["kafka"]}
            Post.save(Post(author_id=author_id, published_at=day, **fields))


def titles(answer):
    return re.findall(r'<h2 dir="auto"><a [^>]+>(.+?)</a>', answer.text)


def link(answer, rel):
    found = re.search(rf'<a rel="{rel}" href="([^"]+)"', answer.text)
    return found and found[1].replace("&amp;", "&")


def test_a_post_is_published(app, ann, nobody):
    path = ann.write("My “first” post", "Some *Markdown*.")
    assert path == "/posts/1/my-first-post"
    page = nobody.get(path).text
    day = datetime.now(UTC).strftime("%Y %B %d")
    assert "<em>Markdown</em>" in page
    assert re.search(
        rf'Published on\s+<time datetime="[^"]+">{day}</time> by\s+<a [^>]+>ann<', page
    )
    assert "updated on" not in page


def test_dates_are_in_the_zone_of_the_blog(make_app):
    app = make_app(TIMEZONE="Asia/Tokyo")
    with app.app_context():
        at = datetime(2023, 10, 13, 20, 0, tzinfo=UTC)
        user = User.create("olga", "x", "post")
        post = Post(author=user, title="Late", body="x", published_at=at)
        db.session.add_all([post, Comment(post=post, author=user, body="y", created_at=at)])
        db.session.commit()
    page = app.test_client().get("/posts/1/late").text
    assert '<time datetime="2023-10-14T05:00:00+09:00">2023 October 14</time>' in page
    assert '<time datetime="2023-10-14T05:00:00+09:00">2023-10-14</time>' in page


@pytest.mark.parametrize("path", ["/posts/1/", "/posts/1/Right-Title", "/posts/1/wrong"])
def test_any_other_slug_leads_to_the_right_one(ann, nobody, path):
    right = ann.write("Right title")
    answer = nobody.get(path)
    assert (answer.status_code, answer.location) == (301, right)


@pytest.mark.parametrize(
    "title", ["Edit", "delete!", "COMMENTS", "🎉", "Café", "صباح", "\u0301" * 200]
)
def test_every_title_has_a_page(ann, nobody, title):
    assert nobody.get(ann.write(title)).status_code == 200


def test_only_the_author_and_the_owner_see_how_to_change_a_post(owner, ann, bob, nobody):
    path = ann.write()
    assert "Edit post" in ann.get(path).text
    assert "Edit post" in owner.get(path).text
    assert "Edit post" not in bob.get(path).text
    assert "Edit post" not in nobody.get(path).text


def test_an_edited_post_says_so(ann, nobody):
    ann.write("Before", "Text.")
    form = ann.get("/posts/1/edit").text
    assert "Before" in form
    assert "Text." in form
    answer = ann.send("/posts/1/edit", title="After", body="Text.\r\nMore.")
    assert answer.location == "/posts/1/after"
    page = nobody.get("/posts/1/after").text
    assert "updated on" in page
    assert "Text.\nMore." in page


def test_a_post_saved_as_it_was_is_not_updated(ann, nobody):
    path = ann.write("Same", "One\ntwo.")
    ann.send("/posts/1/edit", title="Same", body="One\r\ntwo.")
    assert "updated on" not in nobody.get(path).text


def test_the_owner_edits_and_deletes_any_post(owner, ann, nobody):
    ann.write()
    assert owner.send("/posts/1/edit", title="Mended", body="x").status_code == 303
    assert owner.send("/posts/1/delete").status_code == 303
    assert nobody.get("/posts/1/mended").status_code == 404


def test_deleting_asks_first_and_takes_the_comments_along(app, ann, bob, nobody):
    path = ann.write("Gone soon")
    bob.comment(path)
    question = ann.get("/posts/1/delete")
    assert "its 1 comment" in question.text
    assert nobody.get(path).status_code == 200
    assert ann.send("/posts/1/delete").location == "/"
    assert nobody.get(path).status_code == 404
    with app.app_context():
        assert not db.session.scalar(sa.select(sa.func.count(Comment.id)))


@pytest.mark.parametrize("action", ["edit", "delete"])
def test_a_stranger_cannot_change_a_post(ann, bob, action):
    path = ann.write("Mine", "Original.")
    assert bob.get(f"/posts/1/{action}").status_code == 403
    refused = bob.send(f"/posts/1/{action}", title="Stolen", body="Changed.")
    assert refused.status_code == 403
    assert "Original." in bob.get(path).text


def test_the_home_page_lists_the_newest_first(app, ann, nobody):
    first = ann.write("Older", "*Rendered* & cut")
    ann.write("Newer")
    ann.comment(first)
    page = nobody.get("/")
    assert titles(page) == ["Newer", "Older"]
    assert "Rendered &amp; cut" in page.text
    assert re.findall(r"(\d comments?)<", page.text) == ["0 comments", "1 comment"]


def test_an_empty_blog_says_so(owner, nobody):
    assert "There are no posts here yet." in nobody.get("/").text
    assert "Write one." in owner.get("/").text
    assert "There are no posts here yet." in nobody.get("/users/olga").text


def test_lists_are_paged_in_both_directions(app, owner, nobody):
    add_posts(app, 2 * PAGE_SIZE + 5)
    newest = nobody.get("/")
    middle = nobody.get(link(newest, "next"))
    oldest = nobody.get(link(middle, "next"))
    shown = titles(newest) + titles(middle) + titles(oldest)
    assert shown == [f"No {number}" for number in reversed(range(2 * PAGE_SIZE + 5))]
    assert link(newest, "prev") is None
    assert link(oldest, "next") is None
    assert titles(nobody.get(link(oldest, "prev"))) == titles(middle)
    back = nobody.get(link(middle, "prev"))
    assert (back.status_code, back.location) == (303, "/")
    odd = nobody.get(f"{link(middle, 'prev')}&_scheme=evil&_external=1&endpoint=x")
    assert (odd.status_code, odd.location) == (303, "/")


def test_what_other_sites_add_to_a_link_changes_nothing(ann, nobody):
    path = ann.write("Linked")
    assert titles(nobody.get("/?utm_source=elsewhere&fbclid=1")) == ["Linked"]
    assert nobody.get(f"{path}?utm_source=elsewhere").status_code == 200


def test_an_author_page_lists_one_author(app, ann, nobody):
    add_posts(app, 3)
    ann.write("By ann")
    assert titles(nobody.get("/users/ANN")) == ["By ann"]
    assert titles(nobody.get("/users/olga")) == ["No 2", "No 1", "No 0"]


@pytest.mark.parametrize(
    "query",
    [
        "before=x",
        "before=1",
        "after=x",
        "before=1-",
        "before=1-1",
        "before=٣-٣",
        "after=9-9999999999",
    ],
)
def test_a_page_that_does_not_exist_is_a_404(app, owner, nobody, query):
    add_posts(app, 1)
    assert nobody.get(f"/?{query}").status_code == 404
    assert nobody.get(f"/users/olga?{query}").status_code == 404


def test_a_page_whose_posts_are_gone_leads_to_the_newest(app, owner, nobody):
    add_posts(app, 1)
    assert nobody.get("/?after=99999999999999999-2147483647").location == "/"


@pytest.mark.parametrize(
    "path", ["/users/nobody", "/posts/1/x", "/posts/1/edit", "/comments/1/edit"]
)
def test_what_does_not_exist_is_a_404(owner, path):
    assert owner.get(path).status_code == 404


def count_queries(app, person, path):
    counted = []

    def count(_connection, _cursor, statement, *_):
        counted.append(statement)

    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", count)
    assert person.get(path).status_code == 200
    sa.event.remove(engine, "before_cursor_execute", count)
    return len([statement for statement in counted if statement != "BEGIN"])


@pytest.mark.parametrize("posts", [1, 30])
@pytest.mark.parametrize("comments", [1, 30])
def test_pages_take_few_queries(app, ann, posts, comments):
    add_posts(app, posts)
    with app.app_context():
        comment = {"post_id": 1, "author_id": 1, "body": "x"}
        db.session.execute(sa.insert(Comment), [comment] * comments)
        db.session.commit()
    assert count_queries(app, ann, "/") <= 3
    assert count_queries(app, ann, "/users/olga") <= 3
    assert count_queries(app, ann, "/posts/1/no-0") <= 5
    assert count_queries(app, ann, "/tags/kafka") <= 4
    assert count_queries(app, ann, "/search?q=no") <= 4


def test_the_message_after_a_change_says_that_it_was_one(ann):
    post = ann.write()
    assert "Your post is published." in ann.get(post).text
    ann.send("/posts/1/edit", title="Other", body="Text", action="publish")
    assert "Your changes are saved." in ann.get("/").text
    ann.send("/posts/1/edit", title="Other", body="Text", action="draft")
    assert "Your draft is saved." in ann.get("/").text
