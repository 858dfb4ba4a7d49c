"""Search, on both databases alike."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
import sqlalchemy as sa

import search
from database import db
from models import PAGE_SIZE, Post


def titles(page):
    return re.findall(r'<h2 dir="auto"><a [^>]*>([^<]*)</a>', page.text)


def find(person, query):
    """The titles of the posts that are found."""
    page = person.get(f"/search?q={quote(query)}")
    assert page.status_code == 200
    return titles(page)


def test_words_are_found_in_title_text_and_tags(ann, nobody):
    ann.write("Bicycles", "About wheels.")
    ann.write("A walk", "Through the meadow, with a bicycle bell.")
    ann.write("Nothing", "Of that kind.", tags="bicycle, Éa")
    assert find(nobody, "bicycle") == ["Nothing", "A walk", "Bicycles"]
    assert find(nobody, "ea") == ["Nothing"]
    assert find(nobody, "meadow") == ["A walk"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Café", "cafe"),
        ("cafe", "CAFÉ"),
        ("Cafe\u0301", "café"),
        ("Éa", "ea"),
        ("ΑΘΗΝΑ", "αθηνα"),
        ("Ёлка", "ёлка"),
        ("see example.com/a_b-c", "example"),
        ("see example.com/a_b-c", "a_b-c"),
        ("3.14 and abc123", "14 abc123"),
        ("naïve souls", "naive so"),
        ("one two three", '"two three"'),
        ("one two three", '"one two" three'),
        ("one two three", '"one tw'),
        ("don\u2019t", "don't"),
        ("R&D", "r d"),
    ],
)
def test_what_matches(ann, nobody, text, query):
    ann.write("T", text)
    assert find(nobody, query) == ["T"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("one two three", "one four"),
        ("one two three", '"one three"'),
        ("one two three", "tw three"),
        ("one two three", '"tw"'),
        ("one two three", '"two one"'),
        ("one", "NOT two"),
        ("one", "one OR two"),
    ],
)
def test_what_does_not_match(ann, nobody, text, query):
    ann.write("T", text)
    assert find(nobody, query) == []


@pytest.mark.parametrize(
    "query",
    [
        *('"', "*", "NEAR(", "NEAR(a b)", "%", "\\", " ", "", "'", "a'", "a*", "^a", "a:b", "-a"),
        *("title:a", "a AND", "OR", "NOT", "(", ")", "a & b", "a | !b", "<->", ":*", "a:*", "½"),
        *("🎉", "\x00", "\x0b", "\ufffd", "a\x00b", "ª", "é" * 300, "a " * 5000, "x" * 10_000),
        *('"a" "', '"""', "ـ", "हिन्दी", "日本語", "\u0301", "a\u0301", "ﬁ", "²"),
    ],
)
def test_nothing_that_can_be_typed_is_an_error(ann, nobody, query):
    ann.write()
    assert nobody.get(f"/search?q={quote(query)}").status_code == 200


def test_an_empty_query_and_one_without_a_match_are_friendly(ann, nobody):
    assert "Type what you look for" in nobody.get("/search").text
    assert "Type what you look for" in nobody.get("/search?q=++").text
    assert "There is no word in “!?”" in nobody.get("/search?q=!?").text
    page = nobody.get("/search?q=nowhere+%3Cb%3E").text
    assert "No post has all of these words." in page
    assert 'value="nowhere &lt;b&gt;"' in page


def test_the_place_of_the_match_is_shown(ann, nobody):
    ann.write("T", f"{'word ' * 200}a <b>Café</b> & more {'rest ' * 200}")
    page = nobody.get("/search?q=caf").text
    assert "<mark>Café</mark>&lt;/b&gt; &amp; more rest" in page
    assert page.count("rest ") < 40


def test_results_are_paged_newest_first_without_gap_or_repeat(app, ann, nobody):
    with app.app_context():
        for number in range(2 * PAGE_SIZE + 3):
            # Two in each second, and not in the order of their ids.
            at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=number * 7 % 23 // 2)
            db.session.add(Post(author_id=2, title=f"{number}", body="same", published_at=at))
        db.session.commit()
        order = sa.select(Post.title).order_by(Post.published_at.desc(), Post.id.desc())
        expected = list(db.session.scalars(order))
    pages = [nobody.get("/search?q=same")]
    links = [re.search(r'rel="next" href="([^"]+)"', pages[0].text)[1]]
    pages.append(nobody.get(links[0].replace("&amp;", "&")))
    links.append(re.search(r'rel="next" href="([^"]+)"', pages[1].text)[1])
    pages.append(nobody.get(links[1].replace("&amp;", "&")))
    assert [title for page in pages for title in titles(page)] == expected
    back = re.search(r'rel="prev" href="([^"]+)"', pages[2].text)[1]
    assert titles(nobody.get(back.replace("&amp;", "&"))) == titles(pages[1])
    assert "Search for same, older than 1 January 2020" in pages[1].text


def test_rare_words_are_found_behind_many_newer_posts(app, ann, nobody, monkeypatch):
    monkeypatch.setattr(search, "NEWEST", 3)
    ann.write("Old", "A rare word")
    rows = [{"author_id": 2, "title": f"{n}", "body": "common word"} for n in range(20)]
    with app.app_context():
        db.session.execute(sa.insert(Post), rows)
        db.session.commit()
    assert find(nobody, "rare") == ["Old"]
    assert len(find(nobody, "word")) == PAGE_SIZE


@pytest.mark.parametrize("at", [253402214400000000, 8589934592000000, 8589934591000000])
@pytest.mark.parametrize("parameter", ["before", "after"])
def test_no_place_in_the_list_tells_the_words_of_drafts(ann, owner, nobody, at, parameter):
    owner.send("/posts/new", title="Draft", body="merger plans", action="draft")
    for number in range(PAGE_SIZE + 1):
        ann.write(f"{number}", f"merger {'nothing ' * (number + 1)}")
    pages = [nobody.get(f"/search?q={q}&{parameter}={at}-1") for q in ("merger", "nothing")]
    assert [page.status_code for page in pages] == [200 if parameter == "before" else 303] * 2
    assert titles(pages[0]) == titles(pages[1])
    assert ["next" in page.text for page in pages] == [parameter == "before"] * 2


@pytest.mark.parametrize("query", ["\u2474", "1\u2474", "\u3220 x"])
def test_signs_that_fold_to_brackets_are_searched_for_too(ann, nobody, query):
    ann.write("T", "\u2474 1 \u3220 x 1\u2474")
    assert nobody.get(f"/search?q={quote(query)}").status_code == 200


def test_only_what_is_published_is_found(app, ann, nobody):
    path = ann.write("Mine", "secret")
    ann.send("/posts/new", title="Draft", body="secret", action="draft")
    later = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")
    ann.send("/posts/new", title="Later", body="secret", publish_at=later)
    assert find(nobody, "secret") == ["Mine"]
    assert find(ann, "secret") == ["Mine"]
    edit = f"/posts/{path.split('/')[2]}/edit"
    ann.send(edit, title="Mine", body="secret", action="draft")
    assert find(nobody, "secret") == []
    ann.send(edit, title="Mine", body="other words", action="publish")
    assert find(nobody, "secret") == []
    assert find(nobody, "other") == ["Mine"]
    ann.send(f"/posts/{path.split('/')[2]}/delete")
    assert find(nobody, "other") == []


def test_the_database_keeps_search_and_tags_whoever_writes(app, ann, nobody):
    ann.write("First", "old text", tags="a")
    with app.app_context():
        db.session.execute(sa.text("UPDATE posts SET body = 'new text', tags = '[\"b\"]'"))
        db.session.commit()
    assert find(nobody, "old") == []
    assert find(nobody, "new") == ["First"]
    assert nobody.get("/tags/a").status_code == 404
    assert "First" in nobody.get("/tags/b").text
    with app.app_context():
        db.session.execute(sa.text("DELETE FROM posts"))
        db.session.commit()
    assert find(nobody, "new") == []
    assert nobody.get("/tags/b").status_code == 404


def test_search_is_in_the_header_of_every_page_but_not_for_search_engines(nobody, ann):
    for page in (nobody.get("/"), nobody.get("/nowhere"), ann.get("/posts/new")):
        assert re.search('<form action="/search" role="search">\\s*<label>', page.text)
    ann.write()
    assert '<meta name="robots" content="noindex">' in nobody.get("/search?q=title").text
    assert "Disallow: /search" in nobody.get("/robots.txt").text


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_words_that_never_meet_do_not_keep_the_database_busy(app, monkeypatch):
    monkeypatch.setattr(search, "TIME_MAX", 50)
    with app.test_request_context():
        search.found(search.phrases("two words"), None, None)
        with pytest.raises(sa.exc.OperationalError, match="timeout"):
            db.session.execute(sa.text("SELECT pg_sleep(5)"))


def test_only_the_first_page_of_a_search_is_kept(app, ann, nobody):
    with app.app_context():
        posts = [Post(author_id=1, title="No", body="text") for _ in range(2 * PAGE_SIZE)]
        db.session.add_all(posts)
        db.session.commit()
    first = nobody.get("/search?q=text")
    assert first.headers["Cache-Control"] == "no-cache"
    following = re.search(r'rel="next" href="([^"]+)"', first.text)[1].replace("&amp;", "&")
    assert nobody.get(following).headers["Cache-Control"] == "no-store"
