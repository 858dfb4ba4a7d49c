"""What keeps the blog safe: headers, bounded requests, password hashing, and sessions."""

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from threading import BoundedSemaphore
from typing import Any

import sqlalchemy as sa
from flask import Flask, Response, abort, current_app, g, request, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask_login import LoginManager, current_user, login_user, logout_user
from itsdangerous import BadData, URLSafeSerializer
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.security import check_password_hash, generate_password_hash

import cache
from database import db, now
from models import Session, User, Visitor

FIELDS_MAX = 50  # in one form; ours have at most seven
HASHES_MAX = 2  # at a time, each with a core and 32 MiB
QUEUE_MAX = 12  # with those that hash or shrink; the server's other threads serve readers
WAIT_MAX = 5  # seconds in the queue
UPLOADS = {"blog.new_post", "blog.edit_post"}  # whose forms may carry a picture
UPLOAD_MAX = 16 * 1024 * 1024  # bytes of these; a picture that is too large is refused in the form
SESSION_TIME = timedelta(hours=24)  # of a session that ends with its browser
REFUSED_MAX = 80  # characters of a refused text in the log; enough to see what it was
INVITATION_DAYS, RESET_HOURS = 7, 1  # until a link ends
# Pages that show what others may not see; no browser stores them, so that Back shows nothing after
# a log-out. `visible_post` adds drafts and scheduled posts, `owner` its own pages.
PRIVATE = {
    "blog.account",
    "blog.change_password",
    "blog.delete_account",
    "blog.delete_comment",
    "blog.delete_post",
    "blog.drafts",
    "blog.edit_comment",
    "blog.edit_post",
    "blog.export",
    "blog.reset_password",
}
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

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Set the cookie, or say that the response depends on it; a file never does."""
        if not response.cache_control.immutable:
            super().save_session(app, session, response)


def init_app(app: Flask) -> None:
    """Guard every request to the app and every response from it."""
    if n := app.config["PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, n, n, n)  # type: ignore[method-assign]  # Flask's way
    app.session_interface = SessionInterface()
    login_manager.init_app(app, add_context_processor=False)
    app.before_request(refuse_oddities)
    app.after_request(add_headers)


def refuse_oddities() -> None:
    """Refuse what no browser sends for a person: 404 for the address, 413 for the size."""
    query = request.query_string.decode(errors="replace")
    if re.search(r"[\x00-\x1f\x7f\ufffd]", request.path + query):
        abort(404)
    if request.method == "POST":
        if request.endpoint in UPLOADS and request.mimetype == "multipart/form-data":
            request.max_content_length = UPLOAD_MAX
        if len(list(request.form.items(multi=True))) > FIELDS_MAX:
            abort(413)
        if request.content_length is None:
            request.stream.read(1)  # a chunked body is cut at its limit; only reading on tells


def add_headers(response: Response) -> Response:
    """Add the security headers, and keep private pages out of caches."""
    response.headers.extend(HEADERS)
    if request.is_secure:
        response.headers["Strict-Transport-Security"] = "max-age=31536000"  # a year
    if "Cache-Control" not in response.headers:
        if g.get("is_private") or request.endpoint in PRIVATE:
            response.headers["Cache-Control"] = "private, no-store"
        elif session or session.modified:
            response.headers["Cache-Control"] = "private, no-cache"
        else:
            response.headers["Cache-Control"] = "no-cache"
    return response


def safe_path(path: str | None) -> str | None:
    """The path if it leads to this site and nowhere else, else None."""
    return path if path and re.fullmatch(r"/(?![/\\])[!-\[\]-~]*", path) else None


@contextmanager
def slot(places: BoundedSemaphore) -> Iterator[None]:
    """Wait for a place to hash or to shrink a picture; 503 if the queue is full or takes too long.

    Not to be called in a transaction that writes: others would wait, too.
    """
    with ExitStack() as taken:
        for line, wait in ((queue, 0), (places, WAIT_MAX)):
            if not line.acquire(timeout=wait):
                raise ServiceUnavailable(retry_after=WAIT_MAX)
            taken.callback(line.release)
        yield


def hash_password(password: str) -> str:
    """The password's salted hash. Takes about 0.15 s."""
    with slot(hashing):
        return generate_password_hash(password, current_app.config["PASSWORD_HASH"])


def is_password_of(user: User | None, password: str) -> bool:
    """Whether it is the user's password. For nobody it is not, but finding out takes as long."""
    stored = user.password_hash if user else f"{current_app.config['PASSWORD_HASH']}$nobody$"
    with slot(hashing):
        is_right = check_password_hash(stored, password)
    g.is_password_wrong = not is_right  # which the rate limits count
    return is_right


def unchanged(user: User) -> sa.Select[User]:
    """`Select` of the user, unless banned or with another password by then; locked for changes."""
    is_same = (User.id == user.id) & (User.password_hash == user.password_hash)
    return sa.select(User).where(is_same, User.banned_at.is_(None)).with_for_update()


@login_manager.user_loader
def load_user(session_id: str) -> User | None:
    """The user of the session whose id the cookie carries; None when it has ended."""
    row = db.session.execute(Session.user_of(session_id)).first()
    if not row or row.ends_at <= now():
        return None
    cache.end_at(row.ends_at)
    user: User = row.User
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


def sign(purpose: str, time: timedelta, **claims: str | int) -> str:
    """A text for a link that holds the claims until the time is over."""
    signer = URLSafeSerializer(current_app.config["SECRET_KEY"], purpose)
    return str(signer.dumps(claims | {"ends_at": (now() + time).timestamp()}))


def claims_of(purpose: str, token: str) -> dict[str, Any]:
    """What was signed for that purpose; nothing if the token is forged or over."""
    with suppress(BadData):
        claims = URLSafeSerializer(current_app.config["SECRET_KEY"], purpose).loads(token)
        if claims["ends_at"] > now().timestamp():
            return dict(claims)
    return {}


def invitation_token(may: str, days: int = INVITATION_DAYS) -> str:
    """For a link by which one account can be made; `may` is "post" or "comment"."""
    return sign("invitation", timedelta(days=days), id=secrets.token_urlsafe(9), may=may)


def invitation_of(token: str) -> dict[str, Any]:
    """What the invitation of that token says; nothing if it is forged, over or used."""
    claims = claims_of("invitation", token)
    used = sa.select(User.id).where(User.invitation == claims.get("id", ""))
    return {} if db.session.scalar(used) else claims


def reset_token(user: User) -> str:
    """For a link by which the user sets a new password, once."""
    return sign("reset", timedelta(hours=RESET_HOURS), user=user.id, mark=_mark(user.password_hash))


def user_of_reset(token: str) -> User | None:
    """The user whom the token lets set a new password, who has not yet; or None.

    Until the commit, nobody else changes the user.
    """
    claims = claims_of("reset", token)
    query = sa.select(User).where(User.id == claims.get("user", 0))
    user: User | None = db.session.scalar(query.with_for_update())
    return user if user and claims["mark"] == _mark(user.password_hash) else None


def _mark(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def note_refusal(reason: str, text: str) -> None:
    """Tell the log what was refused, and why."""
    name = getattr(current_user, "username", "nobody")
    current_app.logger.warning("Refused (%s), by %s: %r", reason, name, text[:REFUSED_MAX])
