"""Search: posts that have every word, newest first, by SQLite's FTS5 or PostgreSQL's tsvector.

Python prepares the texts for both databases, so that both find the same posts. These tables are
made from the posts: `posts_saved` and `posts_deleted` keep them up to date, and where the version
of the preparation differs, they are made anew at start.
"""

import html
import re
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import click
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR
from sqlalchemy.orm import lazyload

import rendering
from database import UTCDateTime, advisory_lock, atomic, db, now
from models import (
    EPOCH,
    PAGE_SIZE,
    Metadata,
    Place,
    Post,
    newest_first,
    posts_deleted,
    posts_saved,
)

VERSION = "1"  # of the preparation and of the tables; another one makes the index anew
INDEXED = "search index"  # the name of the version in Metadata
CHUNK = 100  # posts that are indexed in one transaction, 20 ms, so that others write meanwhile
QUERY_MAX = 200  # characters; more are cut off
WORDS_MAX = 16  # in quotes, and of such phrases and lone words; more are left out
TIME_MAX = 2_000  # milliseconds on PostgreSQL; common words that never meet could take longer
NEWEST = 500  # posts that PostgreSQL looks through before it gathers all matches of rare words
SECOND = timedelta(seconds=1)
ID_BITS = 30  # of a row's number in FTS5; the bits above are the second of publication
SECONDS_MAX = 2**33 - 1  # since 1970; the year 2242
WORD_MAX = 500  # characters; a tsvector takes 2,046 bytes
# Between title, text and tags: a word that nobody can look for, so that no phrase crosses it.
BREAK = "+"
# Of scripts that write without spaces, each character is a word: Thai, Lao, Burmese, Khmer, kana,
# and Chinese characters.
UNSPACED = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
UNSPACED += "\U00020000-\U0003ffff]"
WORD = re.compile(rf"{UNSPACED}|(?:(?!{UNSPACED})[^\s+#])+(?:(?:\+\+|#)(?![^\s+#]))?")
HTML = re.compile(
    r"<!--.*?-->|</?(?:a|abbr|b|blockquote|br|code|dd|del|div|dl|dt|em|figcaption|figure|h[1-6]|hr"
    r"|i|iframe|img|ins|kbd|li|mark|ol|p|pre|q|s|small|span|strong|sub|summary|sup|table|tbody|td"
    r"|th|thead|tr|u|ul)(?:\s[^<>]*)?/?>",
    re.DOTALL | re.IGNORECASE,
)
LINK_TARGET = re.compile(r"\]\([^()\s]*(?:\s+\"[^\"]*\")?\)")
# Stars within a word are no spaces; the bound keeps hostile lines from taking seconds.
EMPHASIS = re.compile(r"(\*{1,3}|~~)(?=\S)([^\n]{1,200}?)(?<=\S)\1")
TABLES = {
    "sqlite": [
        "CREATE TABLE search_rows (post_id INTEGER PRIMARY KEY, number INTEGER NOT NULL)",
        # The beginnings of words up to 8 letters have indexes: without, one is sought in all
        # words, 20 ms at a million posts. Marks (M*) are parts of letters in Indian scripts.
        "CREATE VIRTUAL TABLE search USING fts5 (words, prefix = '1 2 3 4 5 6 7 8', tokenize = "
        "\"unicode61 remove_diacritics 0 categories 'L* M* N* Co' tokenchars '+#'\")",
    ],
    "postgresql": [
        "CREATE TABLE search (post_id integer PRIMARY KEY REFERENCES posts ON DELETE CASCADE, "
        "published_at timestamptz NOT NULL, words tsvector NOT NULL)",
        "CREATE INDEX ix_search_published_at ON search (published_at, post_id)",
        "CREATE INDEX ix_search_words ON search USING gin (words)",
    ],
}


class Phrase(NamedTuple):
    """Words that follow one another; of an open phrase, the last is the beginning of a word."""

    words: list[str]
    is_open: bool


def words_of(text: str) -> list[str]:
    """The words of a text as they are indexed and looked for."""
    return [word[:WORD_MAX] for word in WORD.findall(rendering.fold(text))]


def prepared(post: Post) -> list[str]:
    """The words of a post: of its title, its text without marks of HTML and Markdown, its tags."""
    body = LINK_TARGET.sub("]", HTML.sub(" ", post.body))
    body = html.unescape(EMPHASIS.sub(r"\2", body))
    found = [*words_of(post.title), BREAK, *words_of(body)]
    for tag in post.tags:
        found += [BREAK, *words_of(tag)]
    return found


def phrases(text: str) -> list[Phrase]:
    """What a query asks for: `"words in quotes"` together, others alone, the last one open."""
    parts = re.findall(r'"[^"]*"?|[^"\s]+', text)
    found = [words[:WORDS_MAX] for part in parts if (words := words_of(part))][:WORDS_MAX]
    is_open = not text.rstrip().endswith('"')
    return [Phrase(words, is_open and i == len(found)) for i, words in enumerate(found, start=1)]


def pattern(asked: list[Phrase]) -> str:
    """A regular expression that finds the phrases in folded text."""
    found = []
    for words, is_open in asked:
        phrase = r"\W*".join(re.escape(word) for word in words)
        if not re.match(UNSPACED, words[0]):
            phrase = rf"(?<!\w){phrase}"
        if not re.match(UNSPACED, words[-1]):
            phrase += r"\w*" if is_open else r"(?!\w)"
        found.append(phrase)
    return "|".join(found)


# The index ----------------------------------------------------------------------------------------


def init_app(app: Flask) -> None:
    """Keep the index up to date, and make it anew where its version is another."""
    posts_saved.connect(index)
    posts_deleted.connect(forget)
    with app.app_context():
        stored = db.session.get(Metadata, INDEXED)
        if not stored or stored.value != VERSION:
            rebuild()


def index(_sender: object, posts: Collection[Post]) -> None:
    """Write the words of these posts instead of those that were theirs."""
    _remove(sa.select(Post.id).where(Post.id.in_([post.id for post in posts])))
    if db.engine.dialect.name == "sqlite":
        places = [(post.published_at, post.id) for post in posts]
        rows = [
            {"id": post.id, "number": _number(place), "words": " ".join(prepared(post))}
            for post, place in zip(posts, places, strict=True)
        ]
        statements = [
            "INSERT INTO search_rows (post_id, number) VALUES (:id, :number)",
            "INSERT INTO search (rowid, words) VALUES (:number, :words)",
        ]
    else:
        rows = [
            {"id": post.id, "at": post.published_at, "words": _tsvector(prepared(post))}
            for post in posts
        ]
        statements = ["INSERT INTO search VALUES (:id, :at, CAST(:words AS tsvector))"]
    for statement in statements:
        db.session.execute(sa.text(statement), rows)


def forget(_sender: object, ids: sa.Select[int]) -> None:
    """Remove the words of the posts of these ids for good, before the posts are deleted."""
    _remove(ids)
    if db.engine.dialect.name == "sqlite":
        # FTS5 only marks words as deleted until it merges its parts; 50 ms for a thousand posts.
        db.session.execute(sa.text("INSERT INTO search (search) VALUES ('optimize')"))


def _remove(ids: sa.Select[int]) -> None:
    post_id, number = sa.column("post_id", sa.Integer), sa.column("number", sa.BigInteger)
    if db.engine.dialect.name == "sqlite":
        rows = sa.table("search_rows", post_id, number)
        numbers = sa.select(number).select_from(rows).where(post_id.in_(ids))
        words = sa.table("search", sa.column("rowid", sa.BigInteger))
        db.session.execute(sa.delete(words).where(words.c.rowid.in_(numbers)))
    else:
        rows = sa.table("search", post_id)
    db.session.execute(sa.delete(rows).where(rows.c.post_id.in_(ids)))


def rebuild() -> None:
    """Make the index anew, some posts at a time, so that others write meanwhile.

    If it is killed, the next start does it again; two processes at once do the same work twice.
    """
    with atomic():
        _make_tables()
    count, last = db.session.scalar(sa.select(sa.func.count(Post.id))) or 0, 0
    with click.progressbar(length=count, label="Search index", hidden=not count) as bar:
        while posts := _index_after(last):
            last = posts[-1].id
            bar.update(len(posts))
    with atomic():
        db.session.merge(Metadata(name=INDEXED, value=VERSION))


def _make_tables() -> None:
    """Make empty tables, unless another process is about to fill them."""
    advisory_lock(db.session.connection())
    unfinished = f"{VERSION}, unfinished"
    stored = db.session.get(Metadata, INDEXED)
    if stored and stored.value == unfinished:
        return
    for table in ("search", "search_rows"):
        db.session.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
    for statement in TABLES[db.engine.dialect.name]:
        db.session.execute(sa.text(statement))
    db.session.merge(Metadata(name=INDEXED, value=unfinished))


def _index_after(id: int) -> Sequence[Post]:
    """Index the next posts after that id, and return them."""
    with atomic():
        some = sa.select(Post).where(Post.id > id).order_by(Post.id).limit(CHUNK)
        posts = db.session.scalars(some.options(lazyload(Post.author)).with_for_update()).all()
        if posts:
            index(None, posts)
    db.session.expunge_all()  # or a large blog fills the memory
    return posts


def _number(place: Place) -> int:
    """The number of a row in FTS5, so that rows lie in the order of lists."""
    return min((place[0] - EPOCH) // SECOND, SECONDS_MAX) << ID_BITS | place[1]


def _tsvector(words: list[str]) -> str:
    """The words with their positions, in PostgreSQL's notation."""
    return " ".join(f"'{word}':{position}" for position, word in enumerate(words, start=1))


# The query ----------------------------------------------------------------------------------------


def found(asked: list[Phrase], before: Place | None, after: Place | None) -> sa.Select[Post]:
    """`Select` of the published Posts that hold every phrase; no more of them than fill a page."""
    find = _in_tsvector if db.engine.dialect.name == "postgresql" else _in_fts5
    # Behind this place there are drafts, whose words are nobody's to guess.
    newest = (now() + SECOND, 0)
    before = min(before or newest, newest)
    return Post.published().where(Post.id.in_(find(asked, before, after)))


def _in_fts5(asked: list[Phrase], before: Place, after: Place | None) -> sa.Select[int]:
    terms = (f'"{" ".join(phrase.words)}"{"*" * phrase.is_open}' for phrase in asked)
    row = sa.column("rowid", sa.BigInteger)
    post_id = row.bitwise_and((1 << ID_BITS) - 1)
    posts = sa.select(post_id).select_from(sa.table("search"))
    posts = posts.where(sa.column("search").match(" ".join(terms)), row < _number(before))
    posts = posts.where(post_id.not_in(Post.by_banned()))
    if after:
        return posts.where(row > _number(after)).order_by(row).limit(PAGE_SIZE + 1)
    return posts.order_by(row.desc()).limit(PAGE_SIZE + 1)


def _in_tsvector(asked: list[Phrase], before: Place, after: Place | None) -> sa.Select[int]:
    db.session.execute(sa.text(f"SET LOCAL statement_timeout = {TIME_MAX}"))
    post_id, words = sa.column("post_id", sa.Integer), sa.column("words", TSVECTOR)
    place = sa.tuple_(sa.column("published_at", UTCDateTime), post_id)
    posts = sa.select(post_id, place.clauses[0], words).select_from(sa.table("search"))
    posts = posts.where(place < before, post_id.not_in(Post.by_banned()))
    order: list[sa.ColumnElement[Any]] = [*newest_first(place)]
    if after:
        posts, order = posts.where(place > after), [*place.clauses]
    matches = [words.bool_op("@@")(sa.cast(_tsquery(phrase), TSQUERY)) for phrase in asked]
    # Left alone, the planner walks through all posts by date, also for a word that none has.
    newest = posts.order_by(*order).limit(NEWEST).cte("newest")
    first = sa.select(newest.c.post_id).where(*matches).limit(PAGE_SIZE + 1).cte("first")
    every = posts.where(*matches).cte("every").prefix_with("MATERIALIZED")
    is_short = sa.select(sa.func.count()).select_from(first).scalar_subquery() <= PAGE_SIZE
    rest = sa.select(every.c.post_id).where(is_short).order_by(*order).limit(PAGE_SIZE + 1)
    return sa.select(sa.union_all(sa.select(first.c.post_id), rest).subquery().c.post_id)


def _tsquery(phrase: Phrase) -> str:
    """The phrase in PostgreSQL's notation."""
    return " <-> ".join(f"'{word}'" for word in phrase.words) + ":*" * phrase.is_open
