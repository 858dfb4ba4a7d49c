"""What keeps the blog safe: headers, bounded requests, hashing in turn, and sessions."""

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from threading import BoundedSemaphore
from typing import Any, NoReturn

import sqlalchemy as sa
from flask import Flask, Response, abort, current_app, request, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask_login import LoginManager, current_user, login_user, logout_user
from itsdangerous import BadData, URLSafeSerializer
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.security import check_password_hash, generate_password_hash

from cache import remembered
from database import SAFE_METHODS, counting, db, locked, now
from models import REFUSAL_DAYS, Attempt, Comment, Post, Refusal, Session, User, Visitor
from rendering import CONTROLS

FIELDS_MAX = 50  # in one form; ours have at most seven
HASHES_MAX = 2  # at a time, each with a core and 32 MiB
QUEUE_MAX = 12  # with those that hash or shrink; the server's other threads serve readers
WAIT_MAX = 5  # seconds in the queue
UPLOADS = {"blog.new_post", "blog.edit_post"}  # whose forms may carry a picture
UPLOAD_MAX = 16 * 1024 * 1024  # bytes of these; a picture that is too large is refused in the form
SESSION_TIME = timedelta(hours=24)  # of a session that ends with its browser
PORT = r"^\[(.+)\](?::\d+)?$|^([\d.]+):\d+$"  # and an address, in one of two groups
REFUSED_TEXT_MAX = 300  # characters; enough to see what it was
REFUSALS_MAX = 1000  # that are kept; a flood must not fill the disk
INVITATION_DAYS, RESET_HOURS = 7, 1  # until a link ends
# What may be tried how often, in how many minutes. A limit by the address alone leaves out the
# loopback: it is the developer, or a proxy that was not declared, and then it would be everybody.
LIMITS = {
    "log-in by name and address": (10, 15),  # a person mistypes a few times
    "log-in by name": (30, 15),  # from anywhere: a password of 8 characters lasts for ages
    "own password": (10, 15),  # in an open session, which no stranger's tries may disturb
    "log-in by address": (50, 60),  # a household or school has many names
    "sign-up by address": (5, 60),  # a family at a table
    "search by address": (60, 1),  # faster than anybody reads
    "refusal by address": (20, 60),  # that are written down; a flood must not hide the others'
}
TEXT_LIMITS = {Post: (20, 60), Comment: (20, 10)}  # of an account; a lively talk, not a flood
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
    # It may have been changed meanwhile.
    return is_right and user is not None and user.password_hash == stored


def is_still(password_hash: str, user: User) -> bool:
    """Whether it is the user's, who changes no password until the commit. Reads the user anew."""
    same = sa.select(User).where(User.id == user.id, User.password_hash == password_hash)
    return db.session.scalar(locked(same)) is not None


@login_manager.user_loader
def load_user(session_id: str) -> User | None:
    """The user of the session whose id the cookie carries; None when it has ended."""
    user, ends_at = remembered(("session", session_id), lambda: find_user(session_id))
    return user if user and ends_at > now() else None


def find_user(session_id: str) -> tuple[User | None, datetime]:
    """The user of that session, and when it ends."""
    user, ends_at = db.session.execute(Session.user_of(session_id)).first() or (None, now())
    if user:
        user.session_id = session_id
        if request.method in SAFE_METHODS:
            db.session.expunge(user)  # other requests will read it
    return user, ends_at


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
    """The user whom the token lets set a new password, who has not yet; or None."""
    claims = claims_of("reset", token)
    query = sa.select(User).where(User.id == claims.get("user", 0))
    user: User | None = db.session.scalar(locked(query))
    return user if user and claims["mark"] == _mark(user.password_hash) else None


def _mark(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def address() -> str:
    """Where the request comes from: an IPv4 address, or the network of an IPv6 one; "" for here."""
    with suppress(ValueError):
        # Some proxies add the port.
        name = re.sub(PORT, r"\1\2", request.remote_addr or "::1")
        ip = ip_address(name)
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return "" if ip.is_loopback else str(ip_network((ip, 64 if ip.version == 6 else 32), False))
    return str(request.remote_addr)


def spend(tries: dict[str, str]) -> None:
    """Count one try for each of these LIMITS, by who tries; an empty one does not count.

    429 past a limit. Changes of the session that were not committed are lost.
    """
    counted = {limit: who for limit, who in tries.items() if who}
    if counted and current_app.config["RATE_LIMITS"] == "on":
        with counting():
            for limit, who in counted.items():
                _count(limit, who)


def give_back(tries: dict[str, str]) -> None:
    """Take back what `spend` counted: this try was none that is limited."""
    keys = [_key(limit, who) for limit, who in tries.items()]
    counted = sa.update(Attempt).where(Attempt.key.in_(keys), Attempt.count > 0)
    with counting():
        db.session.execute(counted.values(count=Attempt.count - 1))


def _key(limit: str, who: str) -> str:
    return f"{limit} {_mark(who)}"  # whoever reads the table learns no names or addresses


def _count(limit: str, who: str) -> None:
    most, minutes = LIMITS[limit]
    key, ends_at = _key(limit, who), now() + timedelta(minutes=minutes)
    db.session.execute(sa.delete(Attempt).where(Attempt.ends_at <= now()))
    attempt = db.session.get(Attempt, key) or Attempt(key=key, count=0, ends_at=ends_at)
    if attempt.count >= most:  # what is refused writes nothing: it costs little
        _too_many(attempt.ends_at - now())
    attempt.count += 1
    db.session.add(attempt)


def _too_many(time: timedelta) -> NoReturn:
    minutes = -(-time // timedelta(minutes=1))
    sentence = f"That is too often. Nothing was saved; try again in {minutes} min."
    raise TooManyRequests(sentence, retry_after=int(time.total_seconds()) + 1)


def check_texts(kind: type[Post] | type[Comment]) -> None:
    """429 if the user has sent too many of that kind lately."""
    if current_app.config["RATE_LIMITS"] == "off":
        return
    most, minutes = TEXT_LIMITS[kind]
    time = timedelta(minutes=minutes)
    sent = sa.select(kind.created_at).where(kind.author_id == current_user.id)
    lately = sent.where(kind.created_at > now() - time).order_by(kind.created_at.desc())
    oldest = db.session.scalar(lately.offset(most - 1).limit(1))
    if oldest:
        _too_many(oldest + time - now())


def note_refusal(reason: str, text: str) -> None:
    """Write down for the owner what was not taken, and why; the oldest are forgotten."""
    username = getattr(current_user, "username", "")
    with suppress(TooManyRequests), counting():
        if who := address():
            _count("refusal by address", who)
        last = sa.select(sa.func.max(Refusal.id)).scalar_subquery()
        is_old = Refusal.created_at < now() - timedelta(days=REFUSAL_DAYS)
        db.session.execute(sa.delete(Refusal).where(is_old | (Refusal.id <= last - REFUSALS_MAX)))
        text = CONTROLS.sub("", text)[:REFUSED_TEXT_MAX]
        db.session.add(Refusal(reason=reason, username=username, text=text))
