"""Tags of posts."""

import html
import re

import pytest
import sqlalchemy as sa

from core.database import db
from extras.tags import Tag


def links(page):
    return re.findall(r'href="(/tags/[^"]+)" rel="tag"', html.unescape(page.text))


def test_tags_are_folded_and_lead_to_their_posts(ann, nobody):
    path = ann.write("First", tags=" Kafka,  big   Data,kafka, #ÉTÉ,, ")
    ann.write("Second", tags="kafka")
    ann.write("Third")
    assert links(nobody.get(path)) == ["/tags/big%20data", "/tags/kafka", "/tags/%C3%A9t%C3%A9"]
    page = nobody.get("/tags/kafka").text
    assert "Posts tagged kafka" in page
    assert "First" in page
    assert "Second" in page
    assert "Third" not in page
    assert "Second" in nobody.get("/tags/KAFKA").text
    assert "First" in nobody.get("/tags/big%20data").text


@pytest.mark.parametrize(
    "tag",
    [
        "AC/DC",
        "CI/CD/x",
        "feed.xml/x",
        "a/...",
        "🎉",
        "c++",
        "c#",
        "صباح",
        "a & <b>",
        "100%",
        "a?b",
        "'\"",
        "हिन्दी",
    ],
)
def test_every_tag_that_is_taken_has_a_page(ann, nobody, tag):
    answer = ann.send("/posts/new", title="x", body="y", tags=tag)
    tagged = nobody.get(answer.location) if answer.location else answer
    assert [nobody.get(link).status_code for link in links(tagged)] == [200] * len(links(tagged))
    assert answer.status_code in (303, 422)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (",".join("abcdefghijk"), "There are 11 tags; a post can have 10."),
        ("x" * 41, "is no tag: it is longer than 40 characters."),
        ("!?", "“!?” is no tag: it has no letter, number or symbol."),
        ("..", "“..” is no tag: it has no letter, number or symbol."),
        ("a/", "“a/” is no tag: each part between slashes has to be a word."),
        ("../login", "“../login” is no tag: each part between slashes has to be a word."),
        ("a/./b", "is no tag: each part"),
        ("/a", "is no tag: each part"),
        ("a//b", "is no tag: each part"),
        ("feed.xml", "“feed.xml” is no tag: its address is that of a feed."),
        ("a/Feed.XML", "“a/feed.xml” is no tag: its address is that of a feed."),
        ("a\\b", "is no tag: a backslash cannot be in its address."),
    ],
)
def test_a_refused_tag_says_why_and_comes_back(ann, tags, message):
    answer = ann.send("/posts/new", title="x", body="My text", tags=tags)
    assert answer.status_code == 422
    assert message in answer.text
    assert f'value="{tags}"' in answer.text
    assert "My text" in answer.text


def test_all_tags_are_counted_but_those_of_drafts(ann, nobody):
    assert "There are no tags yet." in nobody.get("/tags").text
    ann.write("One", tags="a, b")
    ann.write("Two", tags="b")
    ann.send("/posts/new", title="Three", body="x", tags="b, hidden", action="draft")
    assert re.findall(r'dir="auto">(\w+)</a> (\d+)', nobody.get("/tags").text) == [
        ("a", "1"),
        ("b", "2"),
    ]
    assert nobody.get("/tags/hidden").status_code == 404
    assert nobody.get("/tags/hidden/feed.xml").status_code == 404
    assert ann.get("/tags/hidden").status_code == 404


@pytest.mark.parametrize("path", ["/tags/nothing", "/tags/a%00b", "/tags/%ff", "/tags/x/feed.xml"])
def test_a_tag_of_no_post_is_a_404(ann, nobody, path):
    ann.write(tags="a")
    assert nobody.get(path).status_code == 404


def test_tags_are_changed_with_the_post_and_go_with_it(app, ann, nobody):
    path = ann.write("First", tags="a, b")
    assert 'value="a, b"' in ann.get("/posts/1/edit").text
    ann.send("/posts/1/edit", title="First", body="Some text.", tags="b, c")
    assert links(nobody.get(path)) == ["/tags/b", "/tags/c"]
    ann.send("/posts/1/delete")
    with app.app_context():
        assert not db.session.scalar(sa.select(sa.func.count(Tag.name)))


def test_a_tag_has_a_feed(ann, nobody):
    ann.write("Tagged", tags="a")
    ann.write("Other")
    feed = nobody.get("/tags/a/feed.xml").text
    assert "<title>Tagged</title>" in feed
    assert "Other" not in feed
    assert 'href="/tags/a/feed.xml"' in nobody.get("/tags/a").text


def test_a_tag_with_a_slash_has_a_page_and_a_feed(ann, nobody):
    path = ann.write("Loud", tags="AC/DC")
    assert links(nobody.get(path)) == ["/tags/ac/dc"]
    page = nobody.get("/tags/ac/dc").text
    assert "Posts tagged ac/dc" in page
    assert 'href="/tags/ac/dc/feed.xml"' in page
    assert "<title>Loud</title>" in nobody.get("/tags/ac/dc/feed.xml").text


def test_commas_of_chinese_and_japanese_separate_tags(ann, nobody):
    path = ann.write("First", tags="猫、犬，鳥, fish")
    assert links(nobody.get(path)) == [
        "/tags/fish",
        *("/tags/%E7%8A%AC", "/tags/%E7%8C%AB", "/tags/%E9%B3%A5"),
    ]


def test_a_change_of_tags_is_no_update_of_the_text(ann, nobody):
    path = ann.write(tags="a")
    ann.send("/posts/1/edit", title="A title", body="Some text.", tags="b")
    assert "updated on" not in nobody.get(path).text
