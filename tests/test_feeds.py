"""Feeds, the archive, and what search engines and shared links get."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid5
from xml.etree import ElementTree

import feedparser
import pytest
import sqlalchemy as sa
from conftest import PASSWORD, close, on_both
from lxml import etree

from app import create_app
from core.database import atomic, blog_id, db, set_blog_id
from extras import archive, feeds
from models import Post

ATOM = {"a": "http://www.w3.org/2005/Atom"}
ODD = "Ends ]]> <b>& \x0b\x00 🎉 \ufffe 'quoted' \"text\""


def entries(answer):
    assert answer.status_code == 200, answer.text
    return ElementTree.fromstring(answer.text).findall("a:entry", ATOM)


def texts(elements, name):
    return [element.find(f"a:{name}", ATOM).text for element in elements]


@pytest.fixture
def post(ann, bob):
    """A post of ann's among others, with two comments and text that could break a feed."""
    bob.write("By bob")
    path = ann.write(ODD, f"{ODD} [x](/y)")
    bob.comment(path, ODD)
    ann.comment(path, "Second")
    ann.send("/posts/new", title="Draft", body="Hidden", action="draft")
    return path


def test_the_feed_holds_the_newest_posts_whole(nobody, post):
    answer = nobody.get("/feed.xml")
    assert answer.headers["Content-Type"] == "application/atom+xml; charset=utf-8"
    found = entries(answer)
    assert texts(found, "title")[1] == "By bob"
    assert '<a href="http://localhost/y"' in texts(found, "content")[0]
    assert found[0].find("a:link", ATOM).get("href") == f"http://localhost{post}"
    assert "Hidden" not in answer.text


def test_an_author_and_the_comments_of_a_post_have_feeds(nobody, post):
    found = entries(nobody.get("/users/ANN/feed.xml"))
    assert found[0].find("a:link", ATOM).get("href") == f"http://localhost{post}"
    comments = entries(nobody.get("/posts/2/feed.xml"))
    assert texts(comments, "title") == ["Comment by ann", "Comment by bob"]
    link = comments[0].find("a:link", ATOM).get("href")
    assert link == "http://localhost/comments/2"
    assert nobody.get(link).location == f"{post}#comment-2"


def test_the_json_feed_says_the_same(nobody, post):
    answer = nobody.get("/feed.json")
    assert answer.headers["Content-Type"] == "application/feed+json; charset=utf-8"
    feed = json.loads(answer.text)
    assert feed["version"] == "https://jsonfeed.org/version/1.1"
    assert [item["title"] for item in feed["items"]][1] == "By bob"
    assert feed["items"][0]["url"] == f"http://localhost{post}"


@pytest.mark.parametrize("path", ["/feed.xml", "/feed.json", "/users/olga/feed.xml"])
def test_an_empty_feed_is_a_feed(nobody, owner, path):
    assert nobody.get(path).status_code == 200
    assert "0001" not in nobody.get(path).text


@pytest.mark.parametrize("path", ["/users/x/feed.xml", "/posts/9/feed.xml", "/posts/3/feed.xml"])
def test_what_is_not_there_has_no_feed(nobody, post, path):
    assert nobody.get(path).status_code == 404


def test_a_feed_that_did_not_change_is_a_304(ann, nobody, post):
    etag = nobody.get("/feed.xml").headers["ETag"]
    assert nobody.get("/feed.xml", headers={"If-None-Match": etag}).status_code == 304
    ann.write("New")
    assert nobody.get("/feed.xml", headers={"If-None-Match": etag}).status_code == 200


def test_a_feed_has_twenty_entries(app, owner, nobody):
    with app.app_context():
        db.session.execute(sa.insert(Post), [{"author_id": 1, "title": "x", "body": "y"}] * 25)
        db.session.commit()
    assert len(entries(nobody.get("/feed.xml"))) == 20


def test_feeds_and_maps_use_the_public_address(make_app):
    app = make_app(URL="https://blog.example/")
    client = app.test_client()
    texts = [
        client.get(path, base_url="https://blog.example").text
        for path in ("/feed.xml", "/feed.json", "/sitemap.xml", "/robots.txt")
    ]
    assert all("https://blog.example/" in text for text in texts)
    page = client.get("/archive", base_url="https://blog.example").text
    assert '<link rel="canonical" href="https://blog.example/archive">' in page
    assert "https://blog.example//" not in "".join(texts)


def test_a_page_says_what_it_is(ann, nobody, post):
    page = nobody.get(post).text
    assert '<meta property="og:type" content="article">' in page
    assert 'property="article:published_time"' in page
    assert f'href="{post.rpartition("/")[0]}/feed.xml"' in page
    assert "noindex" not in page + nobody.get("/").text + nobody.get("/users/ann").text
    assert "noindex" in nobody.get("/login").text
    assert "noindex" in ann.get("/posts/3/draft").text


def test_the_sitemap_lists_what_all_may_read(nobody, post):
    answer = nobody.get("/sitemap.xml")
    assert answer.mimetype == "application/xml"
    found = re.findall("<loc>(.+?)</loc>", answer.text)
    assert len(found) == 3
    assert f"http://localhost{post}" in found


def test_a_large_sitemap_has_parts(nobody, post, monkeypatch):
    monkeypatch.setattr(feeds, "SITEMAP_MAX", 2)
    parts = re.findall("<loc>http://localhost(.+?)</loc>", nobody.get("/sitemap.xml").text)
    assert parts == ["/sitemap-1.xml", "/sitemap-2.xml"]
    assert [nobody.get(part).text.count("/posts/") for part in parts] == [2, 0]
    assert nobody.get("/sitemap-3.xml").status_code == 404


def test_robots_are_told_where_the_map_is(nobody):
    assert "Sitemap: http://localhost/sitemap.xml" in nobody.get("/robots.txt").text


def test_the_archive_lists_titles_by_month(app, ann, nobody, post):
    with app.app_context():
        db.session.get(Post, 1).published_at = datetime(2023, 10, 13, tzinfo=UTC)
        db.session.commit()
    page = nobody.get("/archive").text
    months = re.findall("<h2>(.+?)</h2>", page)
    assert months == [f"{datetime.now(UTC):%Y %B}", "2023 October"]
    assert "By bob" in page
    assert "Hidden" not in page
    assert "Draft" not in page


def test_a_large_archive_has_a_page_a_year(app, ann, nobody, post, monkeypatch):
    monkeypatch.setattr(archive, "TITLES_MAX", 1)
    with app.app_context():
        db.session.get(Post, 1).published_at -= timedelta(days=2 * 366)
        db.session.commit()
    page = nobody.get("/archive").text
    years = re.findall(r'href="(/archive\?year=\d+)"', page)
    assert len(years) == 3
    assert "By bob" in nobody.get(years[-1]).text
    assert "By bob" not in nobody.get(years[0]).text + page
    following = re.search(r'rel="next" href="([^"]+)"', page)[1].replace("&amp;", "&")
    assert "By bob" in nobody.get(following).text
    assert nobody.get(f"{following}&year=1970").status_code == 404


@pytest.mark.parametrize("year", ["x", "0", "1900", "99999999999", "-5", "9999"])
def test_an_odd_year_is_the_whole_archive(nobody, post, year):
    page = nobody.get(f"/archive?year={year}").text
    assert "By bob" in page
    assert "<h1>Archive</h1>" in page


@pytest.mark.parametrize(
    "path",
    ["/feed.xml", "/users/ann/feed.xml", "/tags/c%23%20d/feed.xml", "/posts/1/feed.xml"],
)
def test_feeds_are_what_the_rfc_says_and_what_readers_read(ann, nobody, path):
    post = ann.write(ODD, f"{ODD} ![x](/y) [z](#z)", tags="c# d")
    ann.comment(post, ODD)
    answer = nobody.get(path)
    schema = etree.RelaxNG(file=str(Path(__file__).parent / "atom.rng"))
    schema.assertValid(etree.fromstring(answer.data))
    read = feedparser.parse(answer.data, response_headers={"content-type": answer.content_type})
    assert not read.bozo
    assert read.feed.links[0].href == f"http://localhost{path}"
    assert nobody.get(read.feed.links[1].href).status_code == 200
    assert "\N{PARTY POPPER}" in read.entries[0].content[0].value


@pytest.mark.parametrize(
    "text", ["a&#12;b", "http://a/%01x", "<http://a/%EF%BF%BF>", "![a&#12;](/x)", "&#xFFFE;"]
)
def test_no_reference_brings_what_breaks_a_feed(ann, nobody, text):
    post = ann.write("T", text)
    ann.comment(post, text)
    for path in ("/feed.xml", "/posts/1/feed.xml"):
        etree.fromstring(nobody.get(path).data)


def test_a_host_that_is_none_has_no_feed(ann, nobody):
    ann.write("T", "[x](/y)")
    assert nobody.get("/feed.xml", headers={"Host": "256.256.256.256"}).status_code == 400


def test_what_is_published_again_is_not_older_than_its_publication(ann, nobody):
    ann.write()
    for fields in ({"body": "New"}, {"body": "New", "action": "draft"}, {"body": "New"}):
        assert ann.send("/posts/1/edit", title="A title", **fields).status_code == 303
    entry = entries(nobody.get("/feed.xml"))[0]
    assert entry.find("a:updated", ATOM).text >= entry.find("a:published", ATOM).text


# Ids ------------------------------------------------------------------------------------------

FEEDS = ["/feed.xml", "/users/ann/feed.xml", "/tags/kafka/feed.xml", "/posts/1/feed.xml"]
ID = UUID("11111111-2222-4333-8444-555555555555")
START = """
import sys
from app import create_app
from core.database import blog_id
app = create_app(sys.argv[1], DATABASE_URL=sys.argv[2], SECRET_KEY="x")
with app.app_context():
    print(blog_id())
"""


def ids(client, path, **options):
    """The ids of a feed and of its entries."""
    text = client.get(path, **options).text
    return re.findall("<id>(.+?)</id>", text) + re.findall('"id": "(.+?)"', text)


@pytest.mark.parametrize("path", [*FEEDS, "/feed.json"])
@pytest.mark.parametrize(
    "settings",
    [
        {"NAME": "Another", "DESCRIPTION": "x", "LANGUAGE": "de", "SECRET_KEY": "y"},
        {"URL": "https://blog.example/below"},
        {"URL": "http://[::1]:8000"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_ids_never_change(make_app, ann, nobody, path, settings):
    ann.comment(ann.write(tags="kafka"))
    before = ids(nobody.client, path)
    assert len(set(before)) == len(before) == 2 - path.endswith("json")
    url = settings.get("URL", "https://other.example:8000")
    assert ids(make_app(**settings).test_client(), path, base_url=url) == before


def test_ids_are_made_of_that_of_the_blog(app, ann, nobody):
    ann.comment(ann.write())
    with app.app_context(), atomic():
        set_blog_id(ID)
    assert ids(nobody.client, "/feed.xml")[1] == uuid5(ID, "post-1").urn
    assert ids(nobody.client, "/feed.json") == [uuid5(ID, "post-1").urn]
    assert ids(nobody.client, "/posts/1/feed.xml")[1] == uuid5(ID, "comment-1").urn


def test_a_feed_is_the_same_by_any_of_its_addresses(ann, nobody):
    ann.write(tags="kafka")
    assert ids(nobody.client, "/users/ANN/feed.xml") == ids(nobody.client, "/users/ann/feed.xml")
    assert ids(nobody.client, "/tags/KAFKA/feed.xml") == ids(nobody.client, "/tags/kafka/feed.xml")
    assert len({ids(nobody.client, path)[0] for path in FEEDS}) == 4


def test_another_blog_has_other_ids(app, tmp_path):
    other = create_app(str(tmp_path / "other"), SECRET_KEY="x")
    with app.app_context():
        here = blog_id()
    with other.app_context():
        there = blog_id()
    close(other)
    assert here != there
    assert {here.version, there.version} == {4}


@on_both
def test_processes_that_start_at_once_agree_on_the_id(make_app, database_url, tmp_path):
    with make_app().app_context(), atomic():
        db.session.execute(sa.text("DELETE FROM metadata"))
    command = [sys.executable, "-c", START, str(tmp_path), database_url]
    options = {"cwd": Path(__file__).parents[1], "stdout": subprocess.PIPE, "text": True}
    starts = [subprocess.Popen(command, **options) for _ in range(4)]
    found = [start.communicate()[0] for start in starts]
    assert len(set(found)) == 1
    assert UUID(found[0].strip()).version == 4


# Who has left ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "Bob Smith"])
def test_comment_feeds_name_nobody_who_has_left(app, ann, bob, owner, nobody, post, name):
    bob.send("/account", display_name=name, about="")
    fields = {"current": PASSWORD, "comments": ""}
    assert bob.send("/account/delete", **fields).status_code == 303
    answer = nobody.get("/posts/2/feed.xml")
    left = entries(answer)[1]
    assert texts([left], "title") == ["Comment by deleted account"]
    assert left.find("a:author/a:name", ATOM).text == "deleted account"
    assert left.find("a:author/a:uri", ATOM) is None
    assert entries(answer)[0].find("a:author/a:uri", ATOM).text == "http://localhost/users/ann"
    pages = [nobody.get(post), ann.get(post), ann.get("/comments/1/delete"), owner.get(post)]
    assert "deleted-" not in "".join(page.text for page in [answer, *pages])
    schema = etree.RelaxNG(file=str(Path(__file__).parent / "atom.rng"))
    schema.assertValid(etree.fromstring(answer.data))
