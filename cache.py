"""Whole pages from memory for visitors without a session, and parts of pages for everybody.

What is kept is good while the database's own change counter stands where it stood before it was
made. So nothing is ever stale, and no code has to say what it changed.
"""

import gzip
import hashlib
import os
import re
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from sys import getsizeof
from threading import RLock
from typing import Any, TypeVar

import sqlalchemy as sa
from cachetools import LRUCache
from flask import Flask, current_app, request
from werkzeug.wrappers import Response

from database import db, now

ENTRY_MAX = 2 * 1024 * 1024  # bytes, for 1 MiB as it is and zipped; more pushes out many others
OVERHEAD = 2_000  # bytes of an entry beside its key and its text
ZIPPED_MIN = 500  # bytes; less is not worth a header
ZIPPED_LEVEL = 6  # 23 kB in 0.5 ms
WAIT_MAX = 1  # seconds for the counter, or for who makes the same page
COUNTERS = {"sqlite": "PRAGMA data_version", "postgresql": "SELECT pg_current_snapshot()::text"}
MARK = "blog.mark"  # in a request's environ: read before its first query, and so for `kept`
KEY = ["wsgi.url_scheme", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT"]
KEY += ["SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"]
# Of the first visitor to a page: cookies, and the conditions, which only the cache answers.
NOT_ASKED = {"HTTP_COOKIE", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE"}
NOT_KEPT = {"Content-Length", "Date", "ETag", "Last-Modified"}  # headers
OF_BODY = {"Content-Type", "Content-Disposition"}  # headers that a 304 does without
TRANSIENT = 429  # and higher: the status of an answer that may be another one the next moment
FOREVER = "public, max-age=31536000, immutable"  # a year, for what changes only with its name
TEXTS = re.compile(r"text/|application/[a-z+]*(?:xml|json)|image/svg")
NO_GZIP = re.compile(r"gzip\s*;\s*q=0(?:\.0*)?\s*(?:,|$)")
Kept = TypeVar("Kept")


class Memory:
    """Texts made from the database, until it changes; the least recently used go first."""

    def __init__(
        self, engine: sa.Engine, most: int, due: Callable[[], sa.Select[datetime]]
    ) -> None:
        self.engine, self.most, self.due = engine, most, due
        self.counter = COUNTERS.get(engine.dialect.name, "")
        self.file = engine.url.database if engine.dialect.name == "sqlite" else None
        self.lock = RLock()
        self.entries: LRUCache[Hashable, tuple[Any, int]] = LRUCache(most, getsizeof=itemgetter(1))
        self.connection: Any = None
        self.number = 0
        self.state: Hashable = None
        self.process = os.getpid()  # that opened the engine's connections
        self.place: tuple[int, ...] = ()
        self.ends_at: datetime | None = None
        sa.event.listen(engine, "engine_disposed", self._close)

    def mark(self) -> int | None:
        """A number that changes with the database, to be read before what is made from it.

        None when it is not known, and nothing can be kept. Takes about 5 µs on SQLite.
        """
        if not self.lock.acquire(timeout=WAIT_MAX):
            return None
        try:
            state = self._state()
            if state != self.state or (self.ends_at and now() >= self.ends_at):
                self.entries.clear()
                self.number, self.state = self.number + 1, state
                with self.engine.connect() as connection:
                    self.ends_at = connection.scalar(self.due())
        except (OSError, sa.exc.SQLAlchemyError, self.engine.dialect.loaded_dbapi.Error):
            self._close()
            return None
        finally:
            self.lock.release()
        return self.number

    def _state(self) -> Hashable:
        """The counter, and whose it is: after a fork or a restored backup, a new one begins."""
        place: tuple[int, ...] = (os.getpid(),)
        if self.file:
            file = os.stat(self.file)
            place += (file.st_ino, file.st_dev)
        if place != self.place:
            # All of the old ones first: SQLite mixes them up with new ones in a process.
            if self.place or self.process != os.getpid():
                self.engine.dispose(close=self.process == os.getpid())
            connection = self.engine.raw_connection()
            self.connection = connection.driver_connection
            connection.detach()
            if not self.file:
                self.connection.autocommit = True  # or it would stay in a transaction for good
            self.place, self.process = place, os.getpid()
        return place, self.connection.execute(self.counter).fetchone()[0]

    def _close(self, _engine: sa.Engine | None = None) -> None:
        """End the counter's connection, with the engine's others; the next mark opens another."""
        with self.lock:  # or a thread that asks just now would crash the process
            if self.connection and self.process == os.getpid():
                self.connection.close()
            self.connection, self.place, self.state = None, (), None

    def get(self, mark: int, key: Hashable) -> Any:
        """What was kept for the key since the mark, or None."""
        with self.lock:
            return self.entries.get(key, (None,))[0] if mark == self.number else None

    def put(self, mark: int, key: Hashable, value: Any, size: int) -> None:
        """Keep a value of that many bytes, made after the mark was read."""
        size += OVERHEAD
        with self.lock:
            if mark == self.number and size <= min(self.most, ENTRY_MAX):
                self.entries[key] = (value, size)


class Page:
    """A response for everybody, as it is and, from its second use on, compressed."""

    def __init__(self, response: Response) -> None:
        self.plain, self.zipped, self.is_used = response.get_data(), b"", False
        is_text = TEXTS.match(response.mimetype or "")
        self.is_zippable = bool(is_text) and len(self.plain) >= ZIPPED_MIN
        if self.is_zippable:
            response.vary.add("Accept-Encoding")
        self.headers = [pair for pair in response.headers if pair[0] not in NOT_KEPT]
        digest = hashlib.blake2b(self.plain, digest_size=16).hexdigest()
        self.etags = f'"{digest}"', f'"{digest}-gzip"'

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer a request for the page with 200, or 304 if the client has it."""
        accepted = environ.get("HTTP_ACCEPT_ENCODING", "")
        zips = self.is_zippable and "gzip" in accepted and not NO_GZIP.search(accepted)
        known = environ.get("HTTP_IF_NONE_MATCH", "")
        for etag in self.etags[: 1 + zips]:
            if etag in known or known == "*":
                headers = [pair for pair in self.headers if pair[0] not in OF_BODY]
                start("304 Not Modified", [*headers, ("ETag", etag)])
                return []
        if zips and self.is_used and not self.zipped:
            self.zipped = gzip.compress(self.plain, ZIPPED_LEVEL, mtime=0)
        self.is_used, zips = True, zips and bool(self.zipped)
        body = self.zipped if zips else self.plain
        headers = [*self.headers, ("ETag", self.etags[zips]), ("Content-Length", str(len(body)))]
        start("200 OK", [*headers, ("Content-Encoding", "gzip")] if zips else headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


class Pages:
    """The WSGI application whose answers for everybody come from memory.

    Each is that to the first request of its kind. Requests that carry the session's cookie pass
    through; answers that are errors, set a cookie or say "no-store" or "private" are not kept.
    """

    def __init__(self, app: Any, memory: Memory, cookie: str) -> None:
        self.app, self.memory, self.cookie = app, memory, f"{cookie}="
        self.turns: dict[Hashable, Future[Any]] = {}  # of those who make a page just now

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer the request, from memory if that may be."""
        is_read = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        mark = environ[MARK] = self.memory.mark() if is_read else None
        if (
            mark is None
            or self.cookie in environ.get("HTTP_COOKIE", "")
            or "HTTP_AUTHORIZATION" in environ
            or "HTTP_RANGE" in environ
        ):
            return self.app(environ, start)  # type: ignore[no-any-return]
        key = tuple(environ.get(name, "") for name in KEY)
        answer = self.memory.get(mark, key) or self._made_in_turn(mark, key, environ)
        return answer(environ, start)  # type: ignore[no-any-return]

    def _made_in_turn(self, mark: int, key: tuple[str, ...], environ: dict[str, Any]) -> Any:
        """What answers: made by the first of those who ask at once, for whom the others wait."""
        mine: Future[Any] = Future()
        turn = self.turns.setdefault((mark, key), mine)
        if turn is not mine:
            with suppress(TimeoutError):
                return turn.result(WAIT_MAX)
            return self.app
        answer: Any = None
        try:
            # It may have been made since this request looked.
            answer = self.memory.get(mark, key) or self._made(mark, key, environ)
            return answer
        finally:
            del self.turns[mark, key]
            mine.set_result(answer if isinstance(answer, Page) else self.app)

    def _made(self, mark: int, key: tuple[str, ...], environ: dict[str, Any]) -> Any:
        """A page, which is kept, or the response if it is not for everybody."""
        asked = {name: value for name, value in environ.items() if name not in NOT_ASKED}
        asked["REQUEST_METHOD"] = "GET"
        response = Response.from_app(self.app, asked, buffered=True)
        if response.status_code >= TRANSIENT:
            return response
        control = response.cache_control
        is_private = control.no_store or control.private or "Set-Cookie" in response.headers
        page = None if is_private or response.status_code != 200 else Page(response)
        size = sum(map(getsizeof, key)) + (2 * len(page.plain) if page else 0)
        self.memory.put(mark, key, page or self.app, size)
        return page or response


def init_app(app: Flask, due: Callable[[], sa.Select[datetime]]) -> None:
    """Keep pages in memory, where the database can say that it has changed, and files in browsers.

    `due` gives the `Select` of when the next scheduled post is published.
    """
    if app.debug:
        return
    files = sorted(Path(str(app.static_folder)).iterdir())
    contents = b"".join(file.read_bytes() for file in files)
    mark = hashlib.blake2b(contents, digest_size=6).hexdigest()
    app.url_defaults(partial(_mark_static, mark))
    app.after_request(partial(_keep_static, mark))
    with app.app_context():
        memory = Memory(db.engine, app.config["CACHE_MAX"], due)
    if memory.most and memory.counter:
        app.extensions["memory"] = memory
        pages = Pages(app.wsgi_app, memory, app.config["SESSION_COOKIE_NAME"])
        app.wsgi_app = pages  # type: ignore[assignment,method-assign]  # Flask's way


def _mark_static(mark: str, endpoint: str, values: dict[str, Any]) -> None:
    if endpoint == "static":
        values["v"] = mark


def _keep_static(mark: str, response: Response) -> Response:
    """Let browsers keep a file whose address changes with its contents."""
    if request.endpoint == "static" and request.args.get("v") == mark:
        response.headers["Cache-Control"] = FOREVER
    return response


def kept(name: Hashable, reader: Hashable, caller: Callable[[], Kept]) -> Kept:
    """What `caller` gives for this page and reader, or gave before; None is everybody.

    In templates: `{% call kept("name", reader) %}…{% endcall %}`.
    """
    return remembered((name, reader, request.url), caller)


def remembered(key: Hashable, make: Callable[[], Kept]) -> Kept:
    """What `make` gives, or gave for that key before; anew in a request that may write."""
    memory: Memory | None = current_app.extensions.get("memory")
    mark = request.environ.get(MARK)
    if memory is None or mark is None:
        return make()
    value: Kept | None = memory.get(mark, key)
    if value is None:
        value = make()
        memory.put(mark, key, value, getsizeof(value))
    return value
