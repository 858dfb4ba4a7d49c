"""Whole pages from memory for visitors without a session, and parts of pages for everybody.

What is kept is good while the database's own change counter stands where it stood before it was
made. So nothing is ever stale, and no code has to say what it changed.
"""

import gzip
import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar

import sqlalchemy as sa
from flask import Flask, current_app, g, request
from werkzeug.wrappers import Response

from database import SAFE_METHODS, db, now

ENTRY_MAX = 1024 * 1024  # bytes; larger pages are rare, and push out many small ones
OVERHEAD = 2_000  # bytes of an entry beside its text
ZIPPED_MIN = 500  # bytes; less is not worth a header
ZIPPED_LEVEL = 6  # 23 kB in 0.5 ms
WAIT_MAX = 1  # seconds for the counter, or for who makes the same page
COUNTERS = {"sqlite": "PRAGMA data_version", "postgresql": "SELECT pg_current_snapshot()::text"}
KEY = ["wsgi.url_scheme", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT"]
KEY += ["SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"]
CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")  # which only the cache answers
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
        is_file = engine.dialect.name == "sqlite"
        self.file = engine.url.database if is_file else None
        self.lock = Lock()
        self.entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.connection: Any = None
        self.size = self.number = 0
        self.state: Hashable = None
        self.place: tuple[int, ...] = ()
        self.ends_at: datetime | None = None

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
                self.size, self.number, self.state = 0, self.number + 1, state
                with self.engine.connect() as connection:
                    self.ends_at = connection.scalar(self.due())
        except (OSError, sa.exc.SQLAlchemyError, self.engine.dialect.loaded_dbapi.Error):
            self.place, self.state = (), None
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
            if self.place:
                self.engine.dispose(close=self.place[0] == os.getpid())
                self.close()
            connection = self.engine.raw_connection()
            self.connection = connection.driver_connection
            connection.detach()
            if not self.file:
                self.connection.autocommit = True  # or the first answer would be the last
            self.place = place
        return place, self.connection.execute(self.counter).fetchone()[0]

    def close(self) -> None:
        """Give the counter's connection back, if it is this process's."""
        if self.place and self.place[0] == os.getpid():
            self.connection.close()
        self.place = ()

    def get(self, mark: int, key: Hashable) -> Any:
        """What was kept for the key since the mark, or None."""
        with self.lock:
            if mark != self.number or key not in self.entries:
                return None
            self.entries.move_to_end(key)
            return self.entries[key][0]

    def put(self, mark: int, key: Hashable, value: Any, size: int) -> None:
        """Keep a value of that many bytes, made after the mark was read."""
        size += OVERHEAD
        with self.lock:
            if mark != self.number or size > ENTRY_MAX:
                return
            self.size += size - self.entries.pop(key, (None, 0))[1]
            self.entries[key] = (value, size)
            while self.size > self.most:
                self.size -= self.entries.popitem(last=False)[1][1]


class Variant:
    """The bytes of a page in one encoding, and the headers that go with them."""

    def __init__(self, response: Response, body: bytes, encoding: str = "") -> None:
        digest = hashlib.blake2b(response.get_data(), digest_size=16).hexdigest()
        self.etag, self.body = f'"{digest}{encoding and "-"}{encoding}"', body
        self.headers = [*response.headers, ("ETag", self.etag), ("Content-Length", str(len(body)))]
        if encoding:
            self.headers.append(("Content-Encoding", encoding))
        # RFC 9110 §15.4.5
        self.short = [pair for pair in self.headers if not pair[0].startswith("Content-")]


class Page:
    """A response for everybody, as it is and, from its second use on, compressed."""

    def __init__(self, response: Response) -> None:
        self.body = response.get_data()
        self.is_zippable = len(self.body) >= ZIPPED_MIN and TEXTS.match(response.mimetype or "")
        if self.is_zippable:
            response.vary.add("Accept-Encoding")
        for name in ("Content-Length", "ETag", "Last-Modified"):
            response.headers.pop(name, None)
        self.response, self.is_used = response, False
        self.plain = Variant(response, self.body)
        self.zipped: Variant | None = None

    def send(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer a request for the page with 200, or 304 if the client has it."""
        accepted = environ.get("HTTP_ACCEPT_ENCODING", "") if self.is_zippable else ""
        variants = [self.plain]
        if "gzip" in accepted and not NO_GZIP.search(accepted):
            if self.is_used and not self.zipped:
                body = gzip.compress(self.body, ZIPPED_LEVEL, mtime=0)
                self.zipped = Variant(self.response, body, "gzip")
            if self.zipped:
                variants.insert(0, self.zipped)
        self.is_used = True
        known = environ.get("HTTP_IF_NONE_MATCH", "")
        for variant in variants if known else ():
            if variant.etag in known or known == "*":
                start("304 Not Modified", list(variant.short))
                return []
        start("200 OK", list(variants[0].headers))
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [variants[0].body]


class Pages:
    """The WSGI application whose answers for everybody come from memory.

    Each is that to the first request of its kind. Requests that carry the session's cookie pass
    through; answers that are errors, set a cookie or say "no-store" or "private" are not kept.
    """

    def __init__(self, app: Any, memory: Memory, cookie: str) -> None:
        self.app, self.memory, self.cookie = app, memory, f"{cookie}="
        self.lock = Lock()
        self.turns: dict[Hashable, Event] = {}  # of those who make a page just now

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer the request, from memory if that may be."""
        is_for_all = (
            environ["REQUEST_METHOD"] in ("GET", "HEAD")
            and self.cookie not in environ.get("HTTP_COOKIE", "")
            and "HTTP_AUTHORIZATION" not in environ
            and "HTTP_RANGE" not in environ
        )
        mark = self.memory.mark() if is_for_all else None
        if mark is None:
            return self.app(environ, start)  # type: ignore[no-any-return]
        key = tuple(environ.get(name, "") for name in KEY)
        page = self.memory.get(mark, key)
        answer = page.send if page else self._made_in_turn(mark, key, environ)
        return answer(environ, start)  # type: ignore[no-any-return]

    def _made_in_turn(self, mark: int, key: Hashable, environ: dict[str, Any]) -> Any:
        """What answers, made by one of those who ask at once, for whom the others wait."""
        with self.lock:
            turn = self.turns.get((mark, key))
            mine = self.turns[mark, key] = Event() if turn is None else turn
        if turn and turn.wait(WAIT_MAX) and (page := self.memory.get(mark, key)):
            return page.send
        try:
            return self._made(mark, key, environ)
        finally:
            if not turn:
                del self.turns[mark, key]
                mine.set()

    def _made(self, mark: int, key: Hashable, environ: dict[str, Any]) -> Any:
        asked = {name: value for name, value in environ.items() if name not in CONDITIONS}
        asked["REQUEST_METHOD"] = "GET"
        response = Response.from_app(self.app, asked, buffered=True)
        control = response.cache_control
        if (
            response.status_code != 200
            or "Set-Cookie" in response.headers
            or control.no_store
            or control.private
        ):
            return response
        page = Page(response)
        self.memory.put(mark, key, page, 2 * len(page.body))
        return page.send


def init_app(app: Flask, due: Callable[[], sa.Select[datetime]]) -> None:
    """Keep pages in memory, where the database can say that it has changed."""
    with app.app_context():
        memory = Memory(db.engine, app.config["CACHE_MAX"], due)
        if app.debug or not memory.most or not memory.counter:
            return
    app.extensions["memory"] = memory
    files = sorted(Path(str(app.static_folder)).iterdir())
    contents = b"".join(file.read_bytes() for file in files)
    mark = hashlib.blake2b(contents, digest_size=6).hexdigest()
    app.url_defaults(partial(_mark_static, mark))
    app.after_request(partial(_keep_static, mark))
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
    if not memory or request.method not in SAFE_METHODS:
        return make()
    if "mark" not in g:
        g.mark = memory.mark()
    value: Kept | None = None if g.mark is None else memory.get(g.mark, key)
    if value is None:
        value = make()
        if g.mark is not None:
            memory.put(g.mark, key, value, len(str(value)))
    return value
