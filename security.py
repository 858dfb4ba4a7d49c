"""What keeps the blog safe: headers, bounded requests, hashing in turn, and sessions."""

import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from threading import BoundedSemaphore

import sqlalchemy as sa
from flask import Flask, Response, abort, current_app, request, session
from flask.sessions import SecureCookieSessionInterface
from flask_login import LoginManager, current_user, login_user, logout_user
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.security import check_password_hash, generate_password_hash

from database import db, now
from models import Session, User, Visitor

FIELDS_MAX = 50  # in one form; ours have at most seven
HASHES_MAX = 2  # at a time, each with a core and 32 MiB
QUEUE_MAX = 12  # with those that hash or shrink; the server's other threads serve readers
WAIT_MAX = 5  # seconds in the queue
UPLOADS = {"blog.new_post", "blog.edit_post"}  # whose forms may carry a picture
UPLOAD_MAX = 16 * 1024 * 1024  # bytes of these; a picture that is too large is refused in the form
SESSION_TIME = timedelta(hours=24)  # of a session that ends with its browser
HEADERS = {
    # There are no scripts to connect anywhere: connect-src lets checkers fetch robots.txt.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' https:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

login_manager = LoginManager()
login_manager.anonymous_user = Visitor
login_manager.session_protection = None  # an address changes with every walk out of the Wi-Fi
hashing, queue = BoundedSemaphore(HASHES_MAX), BoundedSemaphore(QUEUE_MAX)
shrinking = BoundedSemaphore(1)  # of pictures, which may take 3 s and 700 MB


class SessionInterface(SecureCookieSessionInterface):
    """Flask's signed cookie, Secure exactly when the request is https."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def init_app(app: Flask) -> None:
    """Guard every request to the app and every response from it."""
    if n := app.config["PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, n, n, n)  # type: ignore[method-assign]  # Flask's way
    app.session_interface = SessionInterface()
    login_manager.init_app(app, add_context_processor=False)
    app.before_request(refuse_oddities)
    app.after_request(add_headers)


def refuse_oddities() -> None:
    """Refuse what no browser sends for a person: 404 for the path, 413 for the size."""
    if re.search(r"[\x00-\x1f\x7f\ufffd]", request.path):
        abort(404)
    if request.method == "POST":
        if request.endpoint in UPLOADS and request.mimetype == "multipart/form-data":
            request.max_content_length = UPLOAD_MAX
        if sum(1 for _ in request.form.items(multi=True)) > FIELDS_MAX:
            abort(413)
        if request.content_length is None:
            request.stream.read(1)  # a chunked body is cut at its limit; only reading on tells


def add_headers(response: Response) -> Response:
    """Add the security headers, and keep private pages out of shared caches."""
    response.headers.extend(HEADERS)
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"  # a year
    if "Cache-Control" not in response.headers:
        private = "private, " if session or session.modified else ""
        response.headers["Cache-Control"] = f"{private}no-cache"
    return response


def safe_path(path: str | None) -> str | None:
    """The path if it leads to this site and nowhere else, else None."""
    return path if path and re.fullmatch(r"/(?![/\\])[!-\[\]-~]*", path) else None


@contextmanager
def slot(places: BoundedSemaphore) -> Iterator[None]:
    """Wait for a place to hash or to shrink a picture, outside of a transaction: others write.

    Changes that were not committed are lost. 503 when the queue is full or takes too long.
    """
    db.session.rollback()
    with ExitStack() as held:
        for line, wait in ((queue, 0), (places, WAIT_MAX)):
            if not line.acquire(timeout=wait):
                raise ServiceUnavailable(retry_after=WAIT_MAX)
            held.callback(line.release)
        yield


def hash_password(password: str) -> str:
    """The password's salted hash. Takes about 0.15 s."""
    with slot(hashing):
        return generate_password_hash(password, current_app.config["PASSWORD_HASH"])


def is_password_of(user: User | None, password: str) -> bool:
    """Whether it is the user's password. For nobody it is not, but finding out takes as long."""
    stored = user.password_hash if user else f"{current_app.config['PASSWORD_HASH']}$nobody$"
    with slot(hashing):
        return check_password_hash(stored, password)


@login_manager.user_loader
def load_user(session_id: str) -> User | None:
    """The user of the session whose id the cookie carries; None when it has ended."""
    if user := db.session.scalar(Session.user_of(session_id)):
        user.session_id = session_id
    return user


def log_in(user: User, keep: bool) -> None:
    """Begin a session; `keep` keeps it past the browser's end."""
    log_out()
    session.permanent = keep
    time = current_app.permanent_session_lifetime if keep else SESSION_TIME
    user.session_id = secrets.token_urlsafe(32)
    db.session.add(Session(id=user.session_id, user_id=user.id, ends_at=now() + time))
    login_user(user)


def log_out() -> None:
    """End this browser's session, and forget those whose time is over."""
    ended = sa.or_(Session.id == current_user.get_id(), Session.ends_at <= now())
    db.session.execute(sa.delete(Session).where(ended))
    logout_user()
    session.clear()
