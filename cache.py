"""Whole pages from memory: for all visitors without a session, and for each reader with one.

What is kept is good while the database's own change counter stands where it stood before it was
made. So nothing is ever stale, and no code has to say what it changed.
"""

import gzip
import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from functools import partial
from math import inf
from mmap import ACCESS_READ, mmap
from pathlib import Path
from sys import getsizeof
from threading import Lock, RLock
from time import monotonic, time
from typing import Any, TypeVar

import sqlalchemy as sa
from flask import Flask, current_app, g, request, session
from flask import Response as FlaskResponse
from flask_login import current_user
from werkzeug.wrappers import Response

from database import db

ENTRY_MAX = 2 * 1024 * 1024  # bytes, for 1 MiB as it is and zipped; more pushes out many others
OVERHEAD = 2_000  # bytes of an entry beside its key and its text
ZIPPED_MIN = 500  # bytes; less is not worth a header
ZIPPED_LEVEL = 6  # 23 kB in 0.5 ms
WAIT_MAX = 1  # seconds for the counter, or for who makes the same page
HEADER = 48  # bytes of the WAL-index
LOOK_MAX = 0.001  # seconds until it is looked again whether the SQLite file is the same
DIALECTS = ("sqlite", "postgresql")  # which tell of changes
MARK = "blog.mark"  # in a request's environ: read before its first query
# Of a request's environ, what a page for everybody depends on.
KEY = ("wsgi.url_scheme", "HTTP_HOST", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")
# Of the first visitor to a page: cookies, and the conditions, which only the cache answers.
NOT_ASKED = {"HTTP_COOKIE", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE"}
NOT_KEPT = {"Content-Length", "Date", "ETag", "Last-Modified"}  # headers
OF_BODY = {"Content-Type", "Content-Disposition"}  # headers that a 304 does without
TRANSIENT = 429  # and higher: the status of an answer that may be another one the next moment
FOREVER = "public, max-age=31536000, immutable"  # a year, for what changes only with its name
TEXTS = re.compile(r"text/|application/[a-z+]*(?:xml|json)|image/svg")
NO_GZIP = re.compile(r"gzip\s*;\s*q=0(?:\.0*)?\s*(?:,|$)", re.IGNORECASE)
Kept = TypeVar("Kept")


class Memory:
    """Texts made from the database, until it changes; the least recently used go first.

    PostgreSQL tells of changes by the transactions that one sees, SQLite by the header of its
    WAL-index, which is what its own connections look at (sqlite.org/walformat.html §2.1). To ask
    `PRAGMA data_version` would let other threads run meanwhile, and take ten times as long.
    """

    def __init__(
        self, engine: sa.Engine, most: int, due: Callable[[], sa.Select[datetime]]
    ) -> None:
        self.engine, self.most, self.due = engine, most, due
        self.file = engine.url.database if engine.dialect.name == "sqlite" else None
        self.lock, self.asking = Lock(), RLock()  # of the entries, and of the connection
        self.turns: dict[int, Future[int | None]] = {}  # of those who ask next, by process
        self.entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.size = self.number = 0
        self.until = -inf  # seconds of a clock that nobody sets
        self.ends_at = inf  # seconds since 1970
        self.process = os.getpid()  # that opened the engine's connections
        self.place: tuple[int, ...] = ()  # of the connection: its process, and its file
        self.connection: Any = None
        self.index: Any = None
        self.state: bytes | None = None
        sa.event.listen(engine, "engine_disposed", self._close)

    def mark(self) -> int | None:
        """A number that changes with the database, to be read before what is made from it.

        None when it is not known, and nothing can be kept. Takes less than 1 µs on SQLite.
        """
        process, index = os.getpid(), self.index
        is_ours = index and monotonic() < self.until and self.process == process
        if is_ours and index[:HEADER] == self.state:
            return self.number
        mine: Future[int | None] = Future()
        turn = self.turns.setdefault(process, mine)
        if turn is mine:
            turn.set_result(self._asked())
        with suppress(TimeoutError):
            return turn.result(WAIT_MAX)
        return None

    def _asked(self) -> int | None:
        """The number, for all who came before the database is asked for it."""
        is_free = self.asking.acquire(timeout=WAIT_MAX)
        del self.turns[os.getpid()]  # who comes from now on waits for the next answer
        if not is_free:
            return None
        try:
            self._ask()
            return self.number
        except Exception:  # whatever it is: pages are made anew, and say what is wrong
            self.state, self.until = None, -inf
            if not self.file:
                self._close()
            return None
        finally:
            self.asking.release()

    def _ask(self) -> None:
        """Forget everything if the database has changed, or the next scheduled post is due."""
        asked_at = monotonic()
        place: tuple[int, ...] = (os.getpid(),)
        if self.file:
            file = os.stat(self.file)
            place += (file.st_ino, file.st_dev)
        if place != self.place:
            self._connect(place)
        state = self.index[:HEADER] if self.index else self._snapshot()
        if state != self.state or time() >= self.ends_at:
            with self.lock:
                self.entries.clear()
                self.size, self.number = 0, self.number + 1
            with self.engine.connect() as connection:
                due = connection.scalar(self.due())
            self.ends_at, self.state = due.timestamp() if due else inf, state
        self.until = asked_at + min(LOOK_MAX, self.ends_at - time())

    def _connect(self, place: tuple[int, ...]) -> None:
        """Begin anew: at first, after a fork, and when the SQLite file is another."""
        # All of the old ones first: SQLite mixes them up with new ones in a process.
        if self.place or self.process != os.getpid():
            self.engine.dispose(close=self.process == os.getpid())
        connection = self.engine.raw_connection()
        self.connection, self.process = connection.driver_connection, os.getpid()
        connection.detach()
        if self.file:
            self.connection.execute("SELECT 1 FROM posts").fetchone()  # makes the WAL-index
            # To close it would end the locks that SQLite has on it in this process: fcntl(2).
            self.descriptor = os.open(f"{os.path.realpath(self.file)}-shm", os.O_RDONLY)
            self.index = mmap(self.descriptor, HEADER, access=ACCESS_READ)
        else:
            self.connection.autocommit = True  # or it would be idle in a transaction
            self.connection.pgconn.prepare(b"mark", b"SELECT pg_current_snapshot()")
        self.place = place

    def _snapshot(self) -> bytes:
        """The transactions that one sees on PostgreSQL; OSError if it does not answer."""
        answer: bytes | None = self.connection.pgconn.exec_prepared(b"mark", None).get_value(0, 0)
        if answer is None:
            raise OSError
        return answer

    def _close(self, _engine: sa.Engine | None = None) -> None:
        """End the connection, with the engine's others; the next mark opens another."""
        with self.asking:  # or a thread that asks just now would crash the process
            if self.connection and self.process == os.getpid():
                self.connection.close()
            if self.index:
                os.close(self.descriptor)
            self.connection = self.index = self.state = None
            self.place = ()

    def get(self, mark: int, key: Hashable) -> Any:
        """What was kept for the key since the mark, or None."""
        with self.lock:
            entry = self.entries.get(key) if mark == self.number else None
            if entry is None:
                return None
            self.entries.move_to_end(key)
            return entry[0]

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


class Page:
    """A response for everybody, as it is and, from its second use on, compressed."""

    def __init__(self, response: Response) -> None:
        self.body, self.is_used = response.get_data(), False
        is_text = TEXTS.match(response.mimetype or "")
        self.is_zippable = bool(is_text) and len(self.body) >= ZIPPED_MIN
        if self.is_zippable:
            response.vary.add("Accept-Encoding")
        self.headers = [pair for pair in response.headers if pair[0] not in NOT_KEPT]
        digest = hashlib.blake2b(self.body, digest_size=16).hexdigest()
        self.etags = f'"{digest}"', f'"{digest}-gzip"'
        self.variants = {False: self._variant(self.body, self.etags[0])}

    def _variant(self, body: bytes, etag: str, *more: tuple[str, str]) -> tuple[Any, bytes]:
        length = ("Content-Length", str(len(body)))
        return [*self.headers, ("ETag", etag), length, *more], body

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer a request for the page with 200, or 304 if the client has it."""
        accepted = environ.get("HTTP_ACCEPT_ENCODING", "")
        zips = self.is_zippable and "gzip" in accepted and not NO_GZIP.search(accepted)
        if known := environ.get("HTTP_IF_NONE_MATCH", ""):
            for etag in self.etags[: 1 + zips]:
                if etag in known or known == "*":
                    headers = [pair for pair in self.headers if pair[0] not in OF_BODY]
                    start("304 Not Modified", [*headers, ("ETag", etag)])
                    return []
        if zips and self.is_used and zips not in self.variants:
            zipped = gzip.compress(self.body, ZIPPED_LEVEL, mtime=0)
            self.variants[zips] = self._variant(zipped, self.etags[1], ("Content-Encoding", "gzip"))
        self.is_used = True
        headers, body = self.variants[zips and zips in self.variants]
        start("200 OK", headers.copy())  # servers may change it
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
        mark = self.memory.mark()  # for a form too: after a fork, it ends shared connections
        environ[MARK] = mark if is_read else None
        if (
            mark is None
            or not is_read
            or self.cookie in environ.get("HTTP_COOKIE", "")
            or "HTTP_AUTHORIZATION" in environ
            or "HTTP_RANGE" in environ
        ):
            return self.app(environ, start)  # type: ignore[no-any-return]
        key = tuple([environ.get(name, "") for name in KEY])
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
        size = sum(map(getsizeof, key)) + (2 * len(page.body) if page else 0)
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
    if memory.most and memory.engine.dialect.name in DIALECTS:
        app.extensions["memory"] = memory
        app.before_request(partial(_shown_before, memory))
        app.after_request(partial(_keep_shown, memory))
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


def _shown_before(memory: Memory) -> FlaskResponse | None:
    """The page that a reader with this session was shown before, if nothing has changed."""
    mark = request.environ.get(MARK)
    if mark is None or not session or request.endpoint == "static":
        return None
    if "_flashes" in session:  # messages, which are shown once
        return None
    minute = time() // 60  # for some of these, comments can be edited
    own = (current_user.get_id(), session.get("csrf_token"), minute)
    key = (own, *[request.environ.get(name, "") for name in KEY])
    page: bytes | None = memory.get(mark, key)
    if page is None:
        g.shown = mark, key
        return None
    return FlaskResponse(page)


def _keep_shown(memory: Memory, response: FlaskResponse) -> FlaskResponse:
    """Keep a page for readers with this session, unless it is for once."""
    mark, key = g.pop("shown", (None, ()))
    is_page = key and response.status_code == 200 and response.mimetype == "text/html"
    if is_page and not session.modified and not response.cache_control.no_store:
        page = response.get_data()
        memory.put(mark, key, page, len(page) + sum(map(getsizeof, key)))
    return response


def remembered(key: Hashable, caller: Callable[[], Kept]) -> Kept:
    """What `caller` gives, or gave for that key before; anew in a request that may write."""
    memory: Memory | None = current_app.extensions.get("memory")
    mark = request.environ.get(MARK)
    if memory is None or mark is None:
        return caller()
    value: Kept | None = memory.get(mark, key)
    if value is None:
        value = caller()
        memory.put(mark, key, value, getsizeof(value))
    return value
