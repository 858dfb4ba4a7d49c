"""The page cache: whole pages in memory, for visitors, and for each session of logged-in users.

A page is valid while the version of the database equals the one that was read before the page was
rendered. So no page is stale, and no code has to say what it changed.
"""

import gzip
import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from math import inf
from operator import attrgetter
from pathlib import Path
from threading import Event, Lock
from time import monotonic, time
from typing import Any, NamedTuple
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import sqlalchemy as sa
from cachetools import LRUCache
from flask import Response as FlaskResponse
from flask import request
from werkzeug.wrappers import Response

from core.database import db, now
from core.plugins import Blog
from core.security import CACHING, IMMUTABLE, Caching
from models import Post, User

PLUGS_IN_LAST = True  # it wraps the whole application
ENTRY_MAX = 2 * 1024 * 1024  # bytes, for 1 MiB as it is and compressed; more pushes out many others
OVERHEAD = 2_000  # bytes of an entry without its key and its body
GZIP_MIN = 500  # bytes; less is not worth a header
GZIP_LEVEL = 6  # 23 kB in 0.5 ms
WAIT_MAX = 1  # seconds for the version, or for another request that renders the same page
VERSION_MAX = 0.001  # seconds until the version is read again; it takes 5 to 100 µs
VERSIONS = {
    "sqlite": "PRAGMA data_version",
    # NULL on a standby, whose snapshot leaves out what is being replayed. The time of the start
    # tells servers apart behind a pooler.
    "postgresql": "SELECT CASE WHEN NOT pg_is_in_recovery() "
    "THEN pg_current_snapshot()::text || pg_postmaster_start_time()::text END",
}
# What a page depends on, with the session's cookie, in a request's environ.
KEY = ("wsgi.url_scheme", "HTTP_HOST", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")
# Conditions of the first request, which only the cache answers.
CONDITIONS = {"HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE"}
NOT_CACHED = {"Content-Length", "Date", "ETag", "Last-Modified"}  # headers
OF_BODY = {"Content-Type", "Content-Disposition"}  # headers that a 304 does without
TEXTS = re.compile(r"text/|application/[a-z+]*(?:xml|json)|image/svg")
NO_GZIP = re.compile(r"gzip\s*;\s*q=0(?:\.0*)?\s*(?:,|$)", re.IGNORECASE)
Headers = list[tuple[str, str]]
Key = tuple[str, ...]


class Version(NamedTuple):
    """A version of the database, and the time until which its pages are valid."""

    name: object
    due_at: float  # seconds since 1970, when the next scheduled post is published


class Versions:
    """Reads the version of the database, on a connection that does nothing else.

    It is read at most once per millisecond, and again after a check-in: a connection goes back to
    the pool after COMMIT and before the response is sent. So a process sees its own writes at once,
    and those of others after a millisecond.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.lock = Lock()
        self.connection: Any = None  # of the driver
        self.checkin = object()  # another one after each
        # The last version, the check-in before it was read, and until when it need not be read
        # again, by the monotonic clock. One value, so that no thread sees a part of it.
        self.reading: tuple[Version | None, object, float] = (None, None, -inf)
        sa.event.listen(engine, "checkin", self._note_checkin)
        sa.event.listen(engine, "engine_disposed", self._disconnect)

    def current(self) -> Version | None:
        """The version, to be read before a page is rendered; None when it is not known."""
        version, checkin, until = self.reading
        if checkin is self.checkin and monotonic() < until:
            return version
        if not self.lock.acquire(timeout=WAIT_MAX):
            return None
        try:
            # Another thread may have read it while this one waited for the lock.
            version, checkin, until = self.reading
            if checkin is self.checkin and monotonic() < until:
                return version
            return self._read()
        finally:
            self.lock.release()

    def _read(self) -> Version | None:
        """Read the version; a check-in that comes meanwhile makes the next request read again."""
        checkin, asked_at = self.checkin, monotonic()
        last, _, _ = self.reading
        try:
            name = self._name()
            if name is None:
                version = None
            elif last and name == last.name and time() < last.due_at:
                version = last
            else:
                with self.engine.connect() as connection:
                    due = connection.scalar(next_due())
                version = Version(name, due.timestamp() if due else inf)
        except Exception:  # whatever it is: pages are rendered, and say what is wrong
            self._close()
            version = None
        left = version.due_at - time() if version else inf
        self.reading = (version, checkin, asked_at + min(VERSION_MAX, left))
        return version

    def _name(self) -> object:
        """The database's own word for its version, None for unknown."""
        if not self.connection:
            self._connect()
        cursor = self.connection.cursor()
        cursor.execute(VERSIONS[self.engine.dialect.name])
        row = cursor.fetchone()
        cursor.close()
        # Each connection of SQLite counts on its own.
        return (self.connected, row[0]) if row[0] is not None else None

    def _connect(self) -> None:
        connection = self.engine.raw_connection()
        self.connection = connection.driver_connection
        connection.detach()
        if self.engine.dialect.name == "postgresql":
            self.connection.autocommit = True  # or it would stay in a transaction
        self.process, self.connected = os.getpid(), object()

    def _note_checkin(self, *_: object) -> None:
        self.checkin = object()

    def _disconnect(self, *_: object) -> None:
        """Close the connection, with the engine's others; the next request opens another."""
        # In a forked process, a thread of the parent may have the lock for ever.
        if not self.lock.acquire(timeout=WAIT_MAX):
            self.lock = Lock()
            self.lock.acquire()
        self._close()
        self.lock.release()

    def _close(self) -> None:
        # To close a connection of the parent process would end it there.
        if self.connection and self.process == os.getpid():
            self.connection.close()
        self.connection, self.reading = None, (None, None, -inf)


def next_due() -> sa.Select[datetime]:
    """`Select` of the time at which the next scheduled Post is published."""
    due = sa.select(sa.func.min(Post.published_at)).where(Post.published_at > now())
    return due.where(Post.author_id.not_in(User.banned()))


class Page:
    """A response as it is and, from its second use on, compressed."""

    def __init__(self, response: Response, version: Version, until: float, overhead: int) -> None:
        self.version, self.until = version, until
        self.body = response.get_data()
        self.size = 2 * len(self.body) + overhead  # bytes that it takes at most
        self.was_used = False
        is_text = TEXTS.match(response.mimetype or "")
        self.is_compressible = bool(is_text) and len(self.body) >= GZIP_MIN
        if self.is_compressible:
            response.vary.add("Accept-Encoding")
        self.headers = [pair for pair in response.headers if pair[0] not in NOT_CACHED]
        digest = hashlib.blake2b(self.body, digest_size=16).hexdigest()
        self.etag, self.compressed_etag = f'"{digest}"', f'"{digest}-gzip"'
        self.full_headers = self._headers(self.body, self.etag)
        self.compressed: tuple[Headers, bytes] | None = None

    def is_valid(self, version: Version) -> bool:
        """Whether it shows what is in the database, and its time is not over."""
        return self.version == version and time() < self.until

    def _headers(self, body: bytes, etag: str, *more: tuple[str, str]) -> Headers:
        return [*self.headers, ("ETag", etag), ("Content-Length", str(len(body))), *more]

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer a request for the page with 200, or 304 if the client has it."""
        accepted = environ.get("HTTP_ACCEPT_ENCODING", "")
        may_compress = self.is_compressible and "gzip" in accepted and not NO_GZIP.search(accepted)
        if known := environ.get("HTTP_IF_NONE_MATCH", ""):
            etags = [self.etag, self.compressed_etag] if may_compress else [self.etag]
            for etag in etags:
                if etag in known or known == "*":
                    headers = [pair for pair in self.headers if pair[0] not in OF_BODY]
                    start("304 Not Modified", [*headers, ("ETag", etag)])
                    return []
        headers, body = self.full_headers, self.body
        if may_compress and self.was_used:
            if not self.compressed:
                self.compressed = self._compress()
            headers, body = self.compressed
        self.was_used = True
        start("200 OK", headers.copy())  # servers may change it
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _compress(self) -> tuple[Headers, bytes]:
        body = gzip.compress(self.body, GZIP_LEVEL, mtime=0)
        encoding = ("Content-Encoding", "gzip")
        return self._headers(body, self.compressed_etag, encoding), body


class PageCache:
    """A WSGI middleware that answers from memory, and asks the app for one page at a time.

    The cache key has the Cookie header as it was sent, if the session's cookie is in it.
    """

    def __init__(self, app: Blog, versions: Versions) -> None:
        self.app, self.versions = app.wsgi_app, versions
        self.cookie_name = app.config["SESSION_COOKIE_NAME"]
        self.lock = Lock()  # of the entries
        size = attrgetter("size")
        self.entries: LRUCache[Key, Page] = LRUCache(app.config["CACHE_MAX"], getsizeof=size)
        self.in_flight: dict[tuple[Version, Key], Event] = {}

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer the request, from memory if that may be."""
        if (
            environ["REQUEST_METHOD"] not in ("GET", "HEAD")
            or "HTTP_AUTHORIZATION" in environ
            or "HTTP_RANGE" in environ
        ):
            return self.app(environ, start)
        version = self.versions.current()
        if version is None:
            return self.app(environ, start)
        url = [environ.get(name, "") for name in KEY]
        cookies = environ.get("HTTP_COOKIE", "")
        key = (*url, cookies) if self.cookie_name in cookies else tuple(url)
        answer = self._find(key, version) or self._render_once(key, version, environ)
        return answer(environ, start)

    def _find(self, key: Key, version: Version) -> Page | None:
        with self.lock:
            page = self.entries.get(key)
        return page if page and page.is_valid(version) else None

    def _render_once(self, key: Key, version: Version, environ: WSGIEnvironment) -> WSGIApplication:
        """The page, rendered by one of the requests in flight for it; the others wait."""
        rendered = Event()
        other = self.in_flight.setdefault((version, key), rendered)
        if other is not rendered:
            other.wait(WAIT_MAX)
            return self._find(key, version) or self.app
        try:
            # It may have been rendered since this request looked.
            return self._find(key, version) or self._render(key, version, environ)
        finally:
            del self.in_flight[version, key]
            rendered.set()

    def _render(self, key: Key, version: Version, environ: WSGIEnvironment) -> WSGIApplication:
        """The app's response; as a page, and cached, if it may be."""
        request = {name: value for name, value in environ.items() if name not in CONDITIONS}
        request["REQUEST_METHOD"] = "GET"
        if len(key) == len(KEY):
            request.pop("HTTP_COOKIE", None)  # which is not in the key
        caching = request[CACHING] = Caching()
        response = Response.from_app(self.app, request, buffered=True)
        if not is_cacheable(response, caching):
            return response
        page = Page(response, version, caching.until, OVERHEAD + sum(map(len, key)))
        if page.size <= ENTRY_MAX:
            with self.lock, suppress(ValueError):  # larger than all of the cache
                self.entries[key] = page
        return page


def is_cacheable(response: Response, caching: Caching) -> bool:
    """Whether later requests of the same key may be given the response."""
    sets_cookie = "Set-Cookie" in response.headers
    return response.status_code == 200 and caching.is_allowed and not sets_cookie


def init_app(app: Blog) -> None:
    """Plug in: cache pages where the database tells its version, and let browsers cache files."""
    if app.debug:
        return
    files = sorted(Path(str(app.static_folder)).iterdir())
    contents = b"".join(file.read_bytes() for file in files)
    digest = hashlib.blake2b(contents, digest_size=6).hexdigest()
    app.url_defaults(partial(_add_digest, digest))
    app.after_request(partial(_let_browsers_cache, digest))
    with app.app_context():
        engine = db.engine
    if app.config["CACHE_MAX"] and engine.dialect.name in VERSIONS:
        cache = PageCache(app, Versions(engine))
        app.extensions["page_cache"] = cache
        app.wsgi_app = cache  # type: ignore[assignment,method-assign]  # Flask's way


def _add_digest(digest: str, endpoint: str, values: dict[str, object]) -> None:
    if endpoint == "static":
        values["v"] = digest


def _let_browsers_cache(digest: str, response: FlaskResponse) -> FlaskResponse:
    """Let browsers cache a file whose URL changes with its contents."""
    if request.endpoint == "static" and request.args.get("v") == digest:
        response.headers["Cache-Control"] = IMMUTABLE
    return response
