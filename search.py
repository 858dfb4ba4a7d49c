"""Search: posts that hold every word, newest first, by SQLite's FTS5 or PostgreSQL's tsvector.

The database keeps the index itself, by triggers; the first migration makes them.
"""

import re
import unicodedata
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY, TSVECTOR

import rendering
from database import UTCDateTime, db, now
from models import EPOCH, PAGE_SIZE, Place, Post, newest_first

QUERY_MAX = 200  # characters; more are cut off
WORDS_MAX = 16  # in quotes, and of such phrases and lone words; more are left out
TIME_MAX = 2_000  # milliseconds on PostgreSQL; common words that never meet could take longer
NEWEST = 500  # posts that PostgreSQL looks through before it gathers all matches of rare words
SECOND = timedelta(seconds=1)
ID_BITS = 30  # of a row's number in FTS5; the bits above are the second of publication
SECONDS_MAX = 2**33 - 1  # since 1970; the year 2242
WORD = re.compile(r"[^\W_][^\W_\u0300-\u036f]*")


class Phrase(NamedTuple):
    """Words that follow one another; of an open phrase, the last is the beginning of a word."""

    words: list[str]
    is_open: bool


def phrases(text: str) -> list[Phrase]:
    """What a query asks for: `"words in quotes"` together, others alone, the last one open."""
    parts = re.findall(r'"[^"]*"?|[^"\s]+', unicodedata.normalize("NFC", text))
    found = [words[:WORDS_MAX] for part in parts if (words := WORD.findall(part))][:WORDS_MAX]
    is_open = not text.rstrip().endswith('"')
    return [Phrase(words, is_open and i == len(found)) for i, words in enumerate(found, start=1)]


def pattern(asked: list[Phrase]) -> str:
    """A regular expression that finds the phrases in folded text."""
    found = []
    for words, is_open in asked:
        phrase = r"\W+".join(re.escape(rendering.fold(word)) for word in words)
        found.append(phrase + (r"\w*" if is_open else r"(?!\w)"))
    return rf"(?<!\w)(?:{'|'.join(found)})"


def found(asked: list[Phrase], before: Place | None, after: Place | None) -> sa.Select[Post]:
    """`Select` of the published Posts that hold every phrase; no more of them than fill a page."""
    find = _in_tsvector if db.engine.dialect.name == "postgresql" else _in_fts5
    # Behind this place there are drafts, whose words are nobody's to guess.
    newest = (now() + SECOND, 0)
    before = min(before or newest, newest)
    return Post.published().where(Post.id.in_(find(asked, before, after)))


def _in_fts5(asked: list[Phrase], before: Place, after: Place | None) -> sa.Select[int]:
    def number(place: Place) -> int:
        """The place as a row's number, as the triggers make it."""
        return min((place[0] - EPOCH) // SECOND, SECONDS_MAX) << ID_BITS | place[1]

    terms = (f'"{" ".join(phrase.words)}"{"*" * phrase.is_open}' for phrase in asked)
    row = sa.column("rowid", sa.BigInteger)
    posts = sa.select(row.bitwise_and((1 << ID_BITS) - 1)).select_from(sa.table("search"))
    posts = posts.where(sa.column("search").match(" ".join(terms)), row < number(before))
    if after:
        return posts.where(row > number(after)).order_by(row).limit(PAGE_SIZE + 1)
    return posts.order_by(row.desc()).limit(PAGE_SIZE + 1)


def _in_tsvector(asked: list[Phrase], before: Place, after: Place | None) -> sa.Select[int]:
    def query(phrase: Phrase) -> sa.ColumnElement[str]:
        """The phrase as a tsquery; one that PostgreSQL sees no words in finds nothing."""
        closed = sa.func.phraseto_tsquery("simple", sa.func.fold(" ".join(phrase.words)))
        text = sa.func.nullif(sa.cast(closed, sa.Text), "") + (":*" if phrase.is_open else "")
        return sa.cast(text, TSQUERY)

    db.session.execute(sa.text(f"SET LOCAL statement_timeout = {TIME_MAX}"))
    post_id, words = sa.column("post_id", sa.Integer), sa.column("words", TSVECTOR)
    place = sa.tuple_(sa.column("published_at", UTCDateTime), post_id)
    posts = sa.select(post_id, place.clauses[0], words).select_from(sa.table("search"))
    posts = posts.where(place < before)
    order: list[sa.ColumnElement[Any]] = [*newest_first(place)]
    if after:
        posts, order = posts.where(place > after), [*place.clauses]
    matches = [words.bool_op("@@")(query(phrase)) for phrase in asked]
    # Left alone, the planner walks through all posts by date, also for a word that none has.
    newest = posts.order_by(*order).limit(NEWEST).cte("newest")
    first = sa.select(newest.c.post_id).where(*matches).limit(PAGE_SIZE + 1).cte("first")
    every = posts.where(*matches).cte("every").prefix_with("MATERIALIZED")
    is_short = sa.select(sa.func.count()).select_from(first).scalar_subquery() <= PAGE_SIZE
    rest = sa.select(every.c.post_id).where(is_short).order_by(*order).limit(PAGE_SIZE + 1)
    return sa.select(sa.union_all(sa.select(first.c.post_id), rest).subquery().c.post_id)
