"""Response headers, bounded requests, password hashing, signed links and safe redirects."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from threading import BoundedSemaphore
from typing import TypeVar
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, g, request, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask_login import current_user
from itsdangerous import BadData, URLSafeSerializer
from werkzeug.exceptions import SecurityError, ServiceUnavailable
from werkzeug.security import check_password_hash, generate_password_hash

from core.database import now
from core.plugins import current_blog

FIELDS_MAX = 50  # in one form; ours have at most nine
HASHES_MAX = 2  # at a time, each with a core and 32 MiB
QUEUE_MAX = 12  # with those that run; the server's other threads serve readers
QUEUE_SECONDS_MAX = 5  # in the queue, until 503
SLOW_SHARE_MAX = 0.75  # of the threads may wait for clients that send their forms slowly
SLOT_SECONDS_MAX = 0.5  # that a request waits for one of these threads; then 503
LOGGED_MAX = 80  # characters of a refused text in the log; enough to see what it was
IMMUTABLE = "public, max-age=31536000, immutable"  # a year, for what changes only with its URL
PRIVATE = "is_private"  # an attribute of views
CACHING = "blog.caching"  # in a request's environ: the page cache's `Caching` of its response
HEADERS = {
    # There are no scripts to connect anywhere: connect-src lets checkers fetch robots.txt.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' https:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
View = TypeVar("View", bound=Callable[..., object])

hashing, queue = BoundedSemaphore(HASHES_MAX), BoundedSemaphore(QUEUE_MAX)


class SessionInterface(SecureCookieSessionInterface):
    """Flask's signed cookie, Secure exactly when the request is https, for the blog's own path."""

    def get_cookie_path(self, app: Flask) -> str:
        return app.config["SESSION_COOKIE_PATH"] or request.root_path or "/"

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Set the cookie, or say that the response depends on it; a file never does."""
        if not response.cache_control.immutable:
            super().save_session(app, session, response)


# Requests and responses ---------------------------------------------------------------------------


def refuse_other_hosts() -> None:
    """400 for another host than that of BLOG_URL; ports may differ."""
    url = current_app.config["URL"]
    if url and urlsplit(f"//{request.host}").hostname != urlsplit(url).hostname:
        raise SecurityError(f"The host {request.host} is not that of this blog.")


def refuse_odd_urls() -> None:
    """404 for a URL that no browser asks for."""
    query = request.query_string.decode(errors="replace")
    if re.search(r"[\x00-\x1f\x7f\ufffd]", request.path + query):
        abort(404)


def form_reader(threads: int) -> Callable[[], None]:
    """A hook that reads the form of each POST: 413 for one too large, 503 if too many are slow.

    Clients that send slowly hold a part of the threads at most; the others serve readers.
    """
    slots = BoundedSemaphore(max(1, int(threads * SLOW_SHARE_MAX)))

    def read_form() -> None:
        """Read the form of a POST, and of nothing else."""
        if request.method != "POST":
            # No form is read from it: here or in a view, it could come slowly.
            request.max_content_length = 0
            return
        bytes_max = current_blog().multipart_max.get(str(request.endpoint))
        if bytes_max and request.mimetype == "multipart/form-data":
            request.max_content_length = bytes_max
        if not slots.acquire(timeout=SLOT_SECONDS_MAX):
            raise ServiceUnavailable(retry_after=QUEUE_SECONDS_MAX)
        try:
            if len(list(request.form.items(multi=True))) > FIELDS_MAX:
                abort(413)
            if request.content_length is None:
                request.stream.read(1)  # a chunked body is cut at its limit; only reading on tells
        finally:
            slots.release()

    return read_form


def add_headers(response: Response) -> Response:
    """Add the security headers, and keep private pages out of caches."""
    response.headers.extend(HEADERS)
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"  # a year
    view = current_app.view_functions.get(str(request.endpoint))
    if g.get("is_private") or hasattr(view, PRIVATE):
        response.headers["Cache-Control"] = "private, no-store"
    elif "Cache-Control" not in response.headers:
        if session or session.modified:
            response.headers["Cache-Control"] = "private, no-cache"
        else:
            response.headers["Cache-Control"] = "no-cache"
    return response


def private(view: View) -> View:
    """A view whose pages show what others may not see: no browser stores them.

    So Back shows nothing after a log-out. That goes for its error pages, too.
    """
    setattr(view, PRIVATE, True)
    return view


def make_private() -> None:
    """Let no browser store the response to this request, as with `private`."""
    g.is_private = True


@dataclass
class Caching:
    """What views tell the page cache about the response to a request."""

    is_allowed: bool = True
    until: float = inf  # seconds since 1970


def skip_cache() -> None:
    """Let the page cache not keep the response to this request."""
    request.environ.get(CACHING, Caching()).is_allowed = False


def cache_until(at: datetime) -> None:
    """Let the page cache not serve the response to this request after that time."""
    caching = request.environ.get(CACHING, Caching())
    caching.until = min(caching.until, at.timestamp())


def safe_path(path: str | None) -> str | None:
    """The path if it leads to this site and nowhere else, else None."""
    return path if path and re.fullmatch(r"/(?![/\\])[!-\[\]-~]*", path) else None


def log_refusal(reason: str, text: str) -> None:
    """Write to the log what was refused, and why."""
    name = getattr(current_user, "username", "nobody")
    current_app.logger.warning("Refused (%s), by %s: %r", reason, name, text[:LOGGED_MAX])


# Passwords ----------------------------------------------------------------------------------------


@contextmanager
def limited(semaphore: BoundedSemaphore) -> Iterator[None]:
    """Hold the semaphore; 503 if too many requests wait already, or this one waits too long.

    Not to be called inside of a transaction that writes: the other writers would wait, too.
    """
    with ExitStack() as acquired:
        for each, seconds in ((queue, 0), (semaphore, QUEUE_SECONDS_MAX)):
            if not each.acquire(timeout=seconds):
                raise ServiceUnavailable(retry_after=QUEUE_SECONDS_MAX)
            acquired.callback(each.release)
        yield


def hash_password(password: str) -> str:
    """The password's salted hash. Takes about 0.15 s."""
    with limited(hashing):
        return generate_password_hash(password, current_app.config["PASSWORD_HASH"])


def check_password(password_hash: str | None, password: str) -> bool:
    """Whether the hash is that of the password; without a hash False, after the same time."""
    # The time must not tell whether the username exists.
    unknown = f"{current_app.config['PASSWORD_HASH']}$nobody$"
    with limited(hashing):
        is_right = check_password_hash(password_hash or unknown, password)
    g.is_password_wrong = not is_right  # for the rate limits
    return is_right


# Signed links -------------------------------------------------------------------------------------


def sign(purpose: str, lifetime: timedelta, claims: Mapping[str, str | int]) -> str:
    """A token for a link that holds the claims for some time."""
    signer = URLSafeSerializer(current_app.config["SECRET_KEY"], purpose)
    return str(signer.dumps({**claims, "ends_at": (now() + lifetime).timestamp()}))


def verify(purpose: str, token: str) -> dict[str, str | int]:
    """The claims that were signed for that purpose; empty if the token is forged or over."""
    signer = URLSafeSerializer(current_app.config["SECRET_KEY"], purpose)
    with suppress(BadData):
        claims = signer.loads(token)
        ends_at = datetime.fromtimestamp(claims["ends_at"], UTC)
        if ends_at > now():
            cache_until(ends_at)
            return dict(claims)
    return {}
