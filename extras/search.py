"""Search: posts that have every word, newest first, by SQLite's FTS5 or PostgreSQL's tsvector.

Python prepares the texts for both databases, so that both find the same posts. The index is made
from the posts: it follows the signals `posts_saved` and `posts_deleted`, and is rebuilt at start
where the version of the preparation differs.
"""

import html
import re
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import NamedTuple

import click
import sqlalchemy as sa
from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR
from sqlalchemy.orm import lazyload

from app import show_list
from core import rendering
from core.database import Metadata, UTCDateTime, advisory_lock, atomic, db, now
from core.pagination import EPOCH, Cursor, newest_first, requested_cursor
from core.plugins import Blog, posts_deleted, posts_saved
from core.security import skip_cache
from models import PAGE_SIZE, Post

VERSION = "1"  # of the preparation and of the tables; where it differs, the index is rebuilt
METADATA = "search index"  # the name of the version in Metadata
CHUNK = 100  # posts that are indexed in one transaction, 20 ms, so that others write meanwhile
QUERY_MAX = 200  # characters; more are cut off
WORDS_MAX = 16  # in quotes, and of such phrases and lone words; more are left out
TIME_MAX = 2_000  # milliseconds on PostgreSQL; common words that never meet could take longer
NEWEST = 500  # posts that PostgreSQL looks through before it gathers all matches of rare words
SECOND = timedelta(seconds=1)
ID_BITS = 30  # of a row's number in FTS5; the bits above are the second of publication
SECONDS_MAX = 2**33 - 1  # since and before 1970; the years 2242 and 1697
WORD_MAX = 500  # characters; a tsvector takes 2,046 bytes
# Between title, text and tags: a word that nobody can search for, so that no phrase crosses it.
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
# Removed without a space, since it can stand within a word. The bound is for hostile lines,
# which would take seconds.
EMPHASIS = re.compile(r"(\*{1,3}|~~)(?=\S)([^\n]{1,200}?)(?<=\S)\1")
TABLES = {
    "sqlite": [
        "CREATE TABLE search_rows (post_id INTEGER PRIMARY KEY, number INTEGER NOT NULL)",
        # Prefixes of up to 8 letters have indexes: without, a prefix takes 20 ms at a million
        # posts. Marks (M*) are parts of letters in Indian scripts.
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


pages = Blueprint("search", __name__)


class Phrase(NamedTuple):
    """Words that follow one another; of a prefix phrase, the last is the beginning of a word."""

    words: list[str]
    is_prefix: bool


def split_words(text: str) -> list[str]:
    """The words of a text as they are indexed and searched for."""
    return [word[:WORD_MAX] for word in WORD.findall(rendering.fold(text))]


def post_words(post: Post) -> list[str]:
    """The words of a post: its title, its text without HTML and Markdown syntax, its tags."""
    body = LINK_TARGET.sub("]", HTML.sub(" ", post.body))
    body = html.unescape(EMPHASIS.sub(r"\2", body))
    found = [*split_words(post.title), BREAK, *split_words(body)]
    for tag in post.tags:
        found += [BREAK, *split_words(tag)]
    return found


def parse_query(text: str) -> list[Phrase]:
    """The phrases of a query: `"words in quotes"` together, others alone; the last is a prefix."""
    parts = re.findall(r'"[^"]*"?|[^"\s]+', text)
    found = [words[:WORDS_MAX] for part in parts if (words := split_words(part))][:WORDS_MAX]
    phrases = [Phrase(words, is_prefix=False) for words in found]
    if phrases and not text.rstrip().endswith('"'):
        phrases[-1] = phrases[-1]._replace(is_prefix=True)
    return phrases


def pattern(phrases: list[Phrase]) -> str:
    """A regular expression that finds the phrases in folded text."""
    found = []
    for words, is_prefix in phrases:
        phrase = r"\W*".join(re.escape(word) for word in words)
        if not re.match(UNSPACED, words[0]):
            phrase = rf"(?<!\w){phrase}"
        if not re.match(UNSPACED, words[-1]):
            phrase += r"\w*" if is_prefix else r"(?!\w)"
        found.append(phrase)
    return "|".join(found)


# The index ----------------------------------------------------------------------------------------


def index_posts(_sender: object, posts: Sequence[Post]) -> None:
    """Replace the words of these posts."""
    _remove(sa.select(Post.id).where(Post.id.in_([post.id for post in posts])))
    if db.engine.dialect.name == "sqlite":
        rows = [
            {"id": post.id, "rowid": _rowid(post.cursor), "words": " ".join(post_words(post))}
            for post in posts
        ]
        statements = [
            "INSERT INTO search_rows (post_id, number) VALUES (:id, :rowid)",
            "INSERT INTO search (rowid, words) VALUES (:rowid, :words)",
        ]
    else:
        rows = [
            {"id": post.id, "at": post.published_at, "words": _tsvector(post_words(post))}
            for post in posts
        ]
        statements = ["INSERT INTO search VALUES (:id, :at, CAST(:words AS tsvector))"]
    for statement in statements:
        db.session.execute(sa.text(statement), rows)


def remove_posts(_sender: object, ids: sa.Select[int]) -> None:
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
    """Rebuild the index, some posts at a time, so that others can write meanwhile.

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
        db.session.merge(Metadata(name=METADATA, value=VERSION))


def _make_tables() -> None:
    """Make empty tables, unless another process is about to fill them."""
    advisory_lock(db.session.connection())
    unfinished = f"{VERSION}, unfinished"
    stored = db.session.get(Metadata, METADATA)
    if stored and stored.value == unfinished:
        return
    for table in ("search", "search_rows"):
        db.session.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
    for statement in TABLES[db.engine.dialect.name]:
        db.session.execute(sa.text(statement))
    db.session.merge(Metadata(name=METADATA, value=unfinished))


def _index_after(id: int) -> Sequence[Post]:
    """Index the next posts after that id, and return them."""
    with atomic():
        some = sa.select(Post).where(Post.id > id).order_by(Post.id).limit(CHUNK)
        posts = db.session.scalars(some.options(lazyload(Post.author)).with_for_update()).all()
        if posts:
            index_posts(None, posts)
    db.session.expunge_all()  # or a large blog fills the memory
    return posts


def _rowid(cursor: Cursor) -> int:
    """The number of a row in FTS5, so that rows lie in the order of lists."""
    seconds = min(max((cursor.at - EPOCH) // SECOND, -SECONDS_MAX), SECONDS_MAX)
    return seconds << ID_BITS | cursor.id


def _tsvector(words: list[str]) -> str:
    """The words with their positions, in PostgreSQL's notation."""
    return " ".join(f"'{word}':{position}" for position, word in enumerate(words, start=1))


# The query ----------------------------------------------------------------------------------------


def find_posts(
    phrases: list[Phrase], before: Cursor | None, after: Cursor | None
) -> sa.Select[Post]:
    """`Select` of the published Posts that have every phrase; no more of them than fill a page."""
    find = _in_tsvector if db.engine.dialect.name == "postgresql" else _in_fts5
    # After this time there are drafts, whose words are nobody's to guess.
    newest = Cursor(now() + SECOND, 0)
    before = min(before or newest, newest)
    return Post.published().where(Post.id.in_(find(phrases, before, after)))


def _in_fts5(phrases: list[Phrase], before: Cursor, after: Cursor | None) -> sa.Select[int]:
    terms = []
    for words, is_prefix in phrases:
        term = f'"{" ".join(words)}"'
        terms.append(f"{term}*" if is_prefix else term)
    row = sa.column("rowid", sa.BigInteger)
    post_id = row.bitwise_and((1 << ID_BITS) - 1)
    posts = sa.select(post_id).select_from(sa.table("search"))
    posts = posts.where(sa.column("search").match(" ".join(terms)), row < _rowid(before))
    posts = posts.where(post_id.not_in(Post.by_banned()))
    if after:
        return posts.where(row > _rowid(after)).order_by(row).limit(PAGE_SIZE + 1)
    return posts.order_by(row.desc()).limit(PAGE_SIZE + 1)


def _in_tsvector(phrases: list[Phrase], before: Cursor, after: Cursor | None) -> sa.Select[int]:
    db.session.execute(sa.text(f"SET LOCAL statement_timeout = {TIME_MAX}"))
    post_id, words = sa.column("post_id", sa.Integer), sa.column("words", TSVECTOR)
    sort_key = sa.tuple_(sa.column("published_at", UTCDateTime), post_id)
    posts = sa.select(post_id, sort_key.clauses[0], words).select_from(sa.table("search"))
    posts = posts.where(sort_key < before, post_id.not_in(Post.by_banned()))
    order: list[sa.ColumnElement[object]] = [*newest_first(sort_key)]
    if after:
        posts, order = posts.where(sort_key > after), [*sort_key.clauses]
    matches = [words.bool_op("@@")(sa.cast(_tsquery(phrase), TSQUERY)) for phrase in phrases]
    # Left alone, the planner walks through all posts by date, also for a word that none has.
    newest = posts.order_by(*order).limit(NEWEST).cte("newest")
    first = sa.select(newest.c.post_id).where(*matches).limit(PAGE_SIZE + 1).cte("first")
    every = posts.where(*matches).cte("every").prefix_with("MATERIALIZED")
    is_short = sa.select(sa.func.count()).select_from(first).scalar_subquery() <= PAGE_SIZE
    rest = sa.select(every.c.post_id).where(is_short).order_by(*order).limit(PAGE_SIZE + 1)
    return sa.select(sa.union_all(sa.select(first.c.post_id), rest).subquery().c.post_id)


def _tsquery(phrase: Phrase) -> str:
    """The phrase in PostgreSQL's notation."""
    words = " <-> ".join(f"'{word}'" for word in phrase.words)
    return f"{words}:*" if phrase.is_prefix else words


# The page -----------------------------------------------------------------------------------------


def init_app(app: Blog) -> None:
    """Plug in."""
    posts_saved.connect(index_posts, app)
    posts_deleted.connect(remove_posts, app)
    app.slots["header"].append("search/field.html")
    app.register_blueprint(pages)
    with app.app_context():
        stored = db.session.get(Metadata, METADATA)
        if not stored or stored.value != VERSION:
            rebuild()


@pages.get("/search", endpoint="show")
def search_posts() -> ResponseReturnValue:
    """The posts that have every word of a query, newest first."""
    query = " ".join(rendering.normalize_text(request.args.get("q", "")).split())[:QUERY_MAX]
    phrases = parse_query(query)
    if not phrases:
        return render_template("search/help.html", query=query)
    before, after = requested_cursor("before"), requested_cursor("after")
    if before or after:
        skip_cache()  # pages far down are asked for once, and would push out others
    return show_list(
        find_posts(phrases, before, after),
        "search/results.html",
        heading=f"Search for {query}",
        parameters={"q": query},
        query=query,
        summarize=partial(rendering.snippet, pattern=pattern(phrases)),
    )
