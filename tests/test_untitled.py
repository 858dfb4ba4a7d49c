"""Posts without a title, posts from before 1970, and texts that are longer than a form takes."""

import re

import pytest
import sqlalchemy as sa
from conftest import on_both

from core.database import db
from core.rendering import first_words
from models import Post

WORDS = "The heron stands in the pond again, as it did on Monday, and waits for frogs."
FIRST_WORDS = "The heron stands in the pond again, as it did on Monday, and …"


@pytest.fixture
def untitled(ann):
    """The path of a post without a title, between two that have one."""
    ann.write("Before")
    path = ann.write("", WORDS)
    ann.write("After")
    return path


def test_a_post_without_a_title_has_an_address(untitled, nobody):
    assert untitled == "/posts/2/post"
    assert nobody.get("/posts/2/").location == "/posts/2/post"


def test_lists_show_its_text(untitled, nobody):
    page = nobody.get("/").text
    assert WORDS in page
    assert re.findall("<h2.*>(.+)</h2>", page) == ["After</a>", FIRST_WORDS, "Before</a>"]
    assert '<a href="/posts/2/post">Published on <time' in page
    assert f"on {FIRST_WORDS}</span>" in page


def test_its_page_has_one_heading_that_eyes_do_not_see(untitled, nobody):
    page = nobody.get(untitled).text
    assert f"<title>{FIRST_WORDS} " in page
    assert f'<h1 class="visually-hidden" dir="auto">{FIRST_WORDS}</h1>' in page
    assert page.count("<h1") == 1
    assert f'property="og:title" content="{FIRST_WORDS}"' in page


@pytest.mark.parametrize(
    "path",
    [
        "/archive",
        "/posts/1/a-title",
        "/posts/3/after",
        "/feed.xml",
        "/feed.json",
        "/search?q=heron",
    ],
)
def test_its_first_words_stand_where_titles_do(untitled, nobody, path):
    page = nobody.get(path, follow_redirects=True)
    text = page.json["items"][1]["title"] if path == "/feed.json" else page.text
    assert FIRST_WORDS in text


def test_titles_are_read_without_texts(app, ann, untitled):
    for number in range(5):
        ann.write("", f"Note {number}.")
    statements = []
    with app.app_context():
        engine = db.engine
    sa.event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    ann.get("/archive")
    assert len([text for text in statements if "posts.title" in text]) == 1


@pytest.mark.parametrize("owner_page", ["/posts/2/delete", "/owner/moderation", "/drafts"])
def test_pages_about_it_name_it(make_app, owner, ann, untitled, owner_page):
    ann.send("/posts/2/edit", title="", body=WORDS, action="draft")
    assert owner.get(owner_page).status_code == 200
    assert FIRST_WORDS in owner.get("/posts/2/delete").text


@pytest.mark.parametrize("title", ["", "   ", "\u200b"])
def test_a_title_of_which_nothing_is_visible_is_none(ann, title):
    assert ann.write(title, WORDS) == "/posts/1/post"


def test_a_long_comment_is_no_title(ann, nobody):
    path = ann.write("", f"Heron <!-- {'secret ' * 100} --> waits")
    assert "secret" not in nobody.get(path).text
    assert "secret" not in nobody.get("/feed.xml").text + nobody.get("/archive").text


def test_a_text_is_still_needed(ann):
    assert ann.send("/posts/new", title="", body=" ").status_code == 422


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# Heron\n\nIt waits.", "Heron It waits."),
        ("![A heron in a pond](https://x.example/a.png)", "A heron in a pond"),
        ("![](https://x.example/a.png)", "Untitled"),
        ("```\na &lt; b\n```", "a &lt; b"),
        ("|a|b|\n|-|-|\n|c|d|", "a b c d"),
        ("<!-- secret -->", "Untitled"),
        ("*An* [apple](https://x.example) &amp; a pear", "An apple & a pear"),
        ("word " * 20, f"{' '.join(['word'] * 12)} …"),
    ],
)
def test_first_words(text, words):
    assert first_words(text) == words


# Early dates --------------------------------------------------------------------------------------


@pytest.fixture
def letter(app, ann):
    """The path of a post of 1955, older than ten others."""
    for number in range(10):
        ann.write(f"Post {number}", "New.")
    return ann.write("Letter", "Zebra.", publish_at="1955-04-18T12:00", tags="letters")


@on_both
@pytest.mark.parametrize(
    "path",
    [
        *("/archive", "/archive?year=1955", "/feed.xml", "/feed.json", "/sitemap.xml"),
        *("/search?q=zebra", "/tags/letters", "/users/ann?before=-462931200000000-12"),
    ],
)
def test_a_post_of_1955_is_shown(letter, nobody, path):
    page = nobody.get(path)
    assert page.status_code == 200
    assert letter in page.text


@on_both
def test_lists_go_on_to_a_post_of_1955_and_back(letter, ann, nobody):
    ann.write("Older", "Zebra.", publish_at="1954-04-18T12:00")
    older = re.search('rel="next" href="([^"]+)"', nobody.get("/").text)[1]
    page = nobody.get(older.replace("&amp;", "&")).text
    assert letter in page
    assert "1955 April 18" in page
    newer = re.search('rel="prev" href="([^"]+)"', page)[1]
    assert "Post 9" in nobody.get(newer.replace("&amp;", "&"), follow_redirects=True).text


@on_both
def test_search_pages_through_old_posts(ann, nobody):
    for year in range(1900, 1912):
        ann.write(f"Letter of {year}", "Zebra.", publish_at=f"{year}-04-18T12:00")
    page = nobody.get("/search?q=zebra").text
    assert "Letter of 1911" in page
    assert "Letter of 1901" not in page
    older = re.search('rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")
    page = nobody.get(older).text
    assert "Letter of 1901" in page
    assert "Letter of 1900" in page


@pytest.mark.parametrize("year", ["0999", "9999"])
def test_a_year_that_no_list_can_show_is_refused(ann, year):
    answer = ann.send("/posts/new", title="x", body="x", publish_at=f"{year}-01-01T00:00")
    assert answer.status_code == 422
    assert "between the years 1000 and 9998" in answer.text


# Longer texts -------------------------------------------------------------------------------------


@on_both
def test_an_imported_text_can_be_saved_as_long_as_it_is(app, ann, nobody):
    ann.write()
    title, body = "t" * 300, "b" * 60_000
    with app.app_context():
        post = db.session.get(Post, 1)
        post.title, post.body = title, body
        db.session.commit()
    assert ann.send("/posts/1/edit", title=title, body=body).status_code == 303
    answer = ann.send("/posts/1/edit", title=title, body=body + "b")
    assert answer.status_code == 422
    assert "It has 60,001 characters; it can have 1 to 60,000." in answer.text
    assert ann.send("/posts/1/edit", title="short", body="short").status_code == 303
