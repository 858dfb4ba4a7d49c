"""Search, on both databases alike."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from conftest import PASSWORD, Person, on_both, on_postgresql

from core.database import Metadata, atomic, db
from extras import search
from models import PAGE_SIZE, Post


def titles(page):
    return re.findall(r'<h2 dir="auto"><a [^>]*>([^<]*)</a>', page.text)


def find(person, query):
    """The titles of the posts that are found."""
    page = person.get(f"/search?q={quote(query)}")
    assert page.status_code == 200
    return titles(page)


@on_both
def test_words_are_found_in_title_text_and_tags(ann, nobody):
    ann.write("Bicycles", "About wheels.")
    ann.write("A walk", "Through the meadow, with a bicycle bell.")
    ann.write("Nothing", "Of that kind.", tags="bicycle, Éa")
    assert find(nobody, "bicycle") == ["Nothing", "A walk", "Bicycles"]
    assert find(nobody, "ea") == ["Nothing"]
    assert find(nobody, "meadow") == ["A walk"]


@on_both
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
        ("今日は東京に行った", "東京"),
        ("今日は東京に行った", '"東京に"'),
        ("ฉันรักเมืองไทยมาก", "ไทย"),
        ("ຂ້ອຍຮັກລາວ", "ລາວ"),
        ("ខ្ញុំស្រឡាញ់ខ្មែរ", "ខ្មែរ"),
        ("မြန်မာစာ", "မြန်မာ"),
        ("Σίσυφος", "σισυφος"),
        ("ΣΙΣΥΦΟΣ", "σίσυφος"),
        ("ёлка", "елка"),
        ("שָׁלוֹם", "שלום"),
        ("שלום", "שָׁלוֹם"),
        ("I write C++ and C#.", "c++"),
        ("I write C++ and C#.", "C#"),
        ("Grüße aus der Straße", "grusse strasse"),
        ("a **bold** word", '"a bold word"'),
        ("a <em>real</em> word", '"a real word"'),
        ("[a link](https://example.com/hidden) here", '"link here"'),
        ("fish &amp; chips", '"fish chips"'),
    ],
)
def test_what_matches(ann, nobody, text, query):
    ann.write("T", text)
    assert find(nobody, query) == ["T"]


@on_both
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
        ("a cat and a car", "c++"),
        ("a cat and a car", "c#"),
        ("I write C.", "c++"),
        ("今日は東京に行った", "京東"),
        ("<!-- hidden -->", "hidden"),
        ("[a link](https://example.com/hidden) here", "hidden"),
        ('a <span class="hidden">word</span>', "span"),
    ],
)
def test_what_does_not_match(ann, nobody, text, query):
    ann.write("T", text)
    assert find(nobody, query) == []


@on_both
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


@on_both
def test_results_are_paged_newest_first_without_gap_or_repeat(app, ann, nobody):
    with app.app_context(), atomic():
        for number in range(2 * PAGE_SIZE + 3):
            # Two in each second, and not in the order of their ids.
            at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=number * 7 % 23 // 2)
            Post.save(Post(author_id=2, title=f"{number}", body="same", published_at=at))
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


@on_both
def test_rare_words_are_found_behind_many_newer_posts(app, ann, nobody, monkeypatch):
    monkeypatch.setattr(search, "NEWEST", 3)
    ann.write("Old", "A rare word")
    with app.app_context(), atomic():
        Post.save(*[Post(author_id=2, title=f"{n}", body="common word") for n in range(20)])
    assert find(nobody, "rare") == ["Old"]
    assert len(find(nobody, "word")) == PAGE_SIZE


@on_both
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


@on_both
@pytest.mark.parametrize("query", ["\u2474", "1\u2474", "\u3220 x"])
def test_signs_that_fold_to_brackets_are_searched_for_too(ann, nobody, query):
    ann.write("T", "\u2474 1 \u3220 x 1\u2474")
    assert nobody.get(f"/search?q={quote(query)}").status_code == 200


@on_both
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


@on_both
def test_search_and_tags_follow_the_forms(ann, nobody):
    ann.write("First", "old text", tags="a")
    ann.send("/posts/1/edit", title="First", body="new text", tags="b")
    assert find(nobody, "old") == find(nobody, "a") == []
    assert find(nobody, "new") == find(nobody, "b") == ["First"]
    assert nobody.get("/tags/a").status_code == 404
    assert "First" in nobody.get("/tags/b").text
    ann.send("/posts/1/delete")
    assert find(nobody, "new") == []
    assert nobody.get("/tags/b").status_code == 404


def test_sample_posts_are_found(app, nobody):
    app.test_cli_runner().invoke(args=["demo", "--posts", "300"])
    assert len(find(nobody, "bicycle")) == PAGE_SIZE
    assert titles(nobody.get("/tags/bicycle"))


def remaining_tables(app, word):
    """The tables in which a row has that word."""
    with app.app_context():
        names = sa.inspect(db.engine).get_table_names()
        rows = {name: db.session.execute(sa.text(f"SELECT * FROM {name}")).all() for name in names}
    return [name for name, found in rows.items() if word in str(found)]


@on_both
@pytest.mark.parametrize(
    "delete",
    [
        ("/posts/1/delete", {}),
        ("/account/delete", {"current": PASSWORD}),
    ],
    ids=["post", "account"],
)
def test_a_word_that_is_deleted_is_in_no_table(app, ann, delete):
    ann.write("Zebra", "A zebra.", tags="zebra")
    assert remaining_tables(app, "zebra")
    path, fields = delete
    assert ann.send(path, **fields).status_code == 303
    with app.app_context():
        assert (
            db.session.execute(search.find_posts(search.parse_query("zebra"), None, None)).all()
            == []
        )
    assert remaining_tables(app, "zebra") == []


@on_both
def test_an_owner_removes_the_words_of_an_account(app, owner, ann, nobody):
    ann.write("Zebra", "A zebra.", tags="zebra")
    owner.send("/owner/people/ann/remove")
    assert find(nobody, "zebra") == []
    assert remaining_tables(app, "zebra") == []


@on_both
def test_the_words_of_the_banned_hide_nobody_elses(app, owner, ann, bob, nobody):
    with app.app_context(), atomic():
        old = datetime(2020, 1, 1, tzinfo=UTC)
        Post.save(Post(author_id=3, title="Of bob", body="same word", published_at=old))
        Post.save(*[Post(author_id=2, title=f"{n}", body="same word") for n in range(30)])
    assert "Of bob" not in find(nobody, "word")
    owner.send("/owner/people/ann/ban")
    assert find(nobody, "word") == ["Of bob"]
    owner.send("/owner/people/ann/unban")
    assert len(find(nobody, "word")) == PAGE_SIZE


@on_both
def test_an_index_of_another_version_is_made_anew_at_start(app, make_app, ann):
    ann.write("Found", "A word.")
    with app.app_context():
        db.session.get(Metadata, search.METADATA).value = "0"
        db.session.execute(sa.text("DELETE FROM search"))
        db.session.commit()
    assert find(Person(app), "word") == []
    result = app.test_cli_runner().invoke(args=["reindex"])
    assert result.exit_code == 0, result.output
    assert find(Person(app), "word") == ["Found"]
    with app.app_context():
        db.session.get(Metadata, search.METADATA).value = "0"
        db.session.execute(sa.text("DROP TABLE search"))
        db.session.commit()
    assert find(Person(make_app()), "word") == ["Found"]


@on_both
def test_an_index_that_was_half_made_is_finished_at_start(app, make_app, ann, monkeypatch):
    [ann.write(f"{number}", "A word.") for number in range(3)]
    monkeypatch.setattr(search, "CHUNK", 1)
    index, done = search.index_posts, []

    def index_one(*words):
        assert not done, "as if it were killed"
        done.append(index(*words))

    monkeypatch.setattr(search, "index_posts", index_one)
    app.test_cli_runner().invoke(args=["reindex"])
    monkeypatch.setattr(search, "index_posts", index)
    assert find(Person(app), "word") == ["0"]
    assert find(Person(make_app()), "word") == ["2", "1", "0"]


def test_search_is_in_the_header_of_every_page_but_not_for_search_engines(nobody, ann):
    for page in (nobody.get("/"), nobody.get("/nowhere"), ann.get("/posts/new")):
        assert re.search('<form action="/search" role="search">\\s*<label>', page.text)
    ann.write()
    assert '<meta name="robots" content="noindex">' in nobody.get("/search?q=title").text
    assert "Disallow: /search" in nobody.get("/robots.txt").text


@on_postgresql
def test_words_that_never_meet_do_not_keep_the_database_busy(app, monkeypatch):
    monkeypatch.setattr(search, "TIME_MAX", 50)
    with app.test_request_context():
        search.find_posts(search.parse_query("two words"), None, None)
        with pytest.raises(sa.exc.OperationalError, match="timeout"):
            db.session.execute(sa.text("SELECT pg_sleep(5)"))


def test_only_the_first_page_of_a_search_is_kept(app, ann, nobody):
    with app.app_context(), atomic():
        Post.save(*[Post(author_id=1, title="No", body="text") for _ in range(2 * PAGE_SIZE)])
    first = nobody.get("/search?q=text")
    assert "ETag" in first.headers
    following = re.search(r'rel="next" href="([^"]+)"', first.text)[1].replace("&amp;", "&")
    assert "ETag" not in nobody.get(following).headers
