"""Rate limits: how often is too often, in one table by endpoint, counted by Flask-Limiter."""

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from ipaddress import ip_address, ip_network
from math import ceil
from time import time
from typing import NamedTuple

from flask import Response, current_app, g, make_response, request
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter, RateLimitExceeded
from flask_login import current_user
from limits.errors import ConfigurationError
from werkzeug.exceptions import TooManyRequests

from core.config import SettingError
from core.plugins import Blog, comment_saved, post_published

View = Callable[..., ResponseReturnValue]
# Some proxies add the port: an IPv6 address in brackets or an IPv4 address, and a port.
WITH_PORT = re.compile(r"\[(?P<ipv6>.+)\](:\d+)?|(?P<ipv4>[\d.]+):\d+")
STORAGE_SECONDS_MAX = 1  # until a storage that does not answer is left alone for some time


def client_ip() -> str:
    """The network of one client: an IPv4 address or the /64 of an IPv6 one; "" for the loopback.

    The loopback is the developer, or a proxy that was not declared, and then it would be everybody.
    """
    text = request.remote_addr or "::1"
    if match := WITH_PORT.fullmatch(text):
        text = match["ipv6"] or match["ipv4"]
    with suppress(ValueError):
        ip = ip_address(text)
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if ip.is_loopback:
            return ""
        return str(ip_network((ip, 64 if ip.version == 6 else 32), strict=False))
    return text


def username() -> str:
    """The name that is typed into a form, in lower case."""
    return request.form.get("username", "").strip().lower()


def username_and_ip() -> str:
    """The same, from one client."""
    return f"{username()} {client_ip()}"


def user_id() -> str:
    """The id of the logged-in user, or ""."""
    return str(current_user.id or "")


class Limit(NamedTuple):
    """A rate in Flask-Limiter's words, and whose requests are counted together ("": not)."""

    rate: str
    key: Callable[[], str]


class Policy(NamedTuple):
    """The limits of requests by these methods.

    They are counted before the view, which may be slow, and refunded unless the response `counts`.
    """

    scope: str  # of one name, requests for several views are counted together
    methods: set[str]
    limits: list[Limit]
    counts: Callable[[Response], bool] = lambda _response: True


def is_password_wrong(_response: Response) -> bool:
    """Whether a password was checked, and was not the account's."""
    return bool(g.get("is_password_wrong"))


def is_redirect(response: Response) -> bool:
    """Whether the form was accepted."""
    return response.status_code == 303


LOG_IN = [
    Limit("10 per 15 minutes", username_and_ip),  # a person mistypes a few times
    Limit("30 per 15 minutes", username),  # 8 characters last for ages
    Limit("50 per hour", client_ip),  # a household or school has many names
]
# No stranger's attempts disturb an open session.
OWN_PASSWORD = [Limit("10 per 15 minutes", user_id)]
SIGN_UP = [Limit("5 per hour", client_ip)]  # a family at a table
SEARCH = [Limit("60 per minute", client_ip)]  # faster than anybody reads
POLICIES = {
    "auth.log_in": Policy("log-in", {"POST"}, LOG_IN, is_password_wrong),
    "account.change_password": Policy("password", {"POST"}, OWN_PASSWORD, is_password_wrong),
    "account.delete": Policy("password", {"POST"}, OWN_PASSWORD, is_password_wrong),
    "auth.sign_up": Policy("sign-up", {"POST"}, SIGN_UP, is_redirect),
    "search.show": Policy("search", {"GET", "HEAD"}, SEARCH),
}
# Counted when they are saved: a lively talk, not a flood.
POSTS = Limit("20 per hour", user_id)
COMMENTS = Limit("20 per 10 minutes", user_id)


def init_app(app: Blog) -> None:
    """Plug in: limit the views of POLICIES that are there, and what forms save.

    SettingError for a storage that there is not.
    """
    if app.config["RATE_LIMITS"] == "off":
        return
    uri = app.config["LIMITS_STORAGE"]
    timeouts: dict[str, str | int] = {
        "socket_connect_timeout": STORAGE_SECONDS_MAX,
        "socket_timeout": STORAGE_SECONDS_MAX,
    }
    try:
        limiter = Limiter(
            client_ip,
            app=app,
            storage_uri=uri,
            storage_options={} if uri.startswith("memory:") else timeouts,
            in_memory_fallback_enabled=True,
            key_prefix="blog",
        )
    except (ConfigurationError, ValueError) as error:
        example = "redis://127.0.0.1:6379"
        raise SettingError(f"BLOG_LIMITS_STORAGE is no storage; try {example}.") from error
    for endpoint in POLICIES.keys() & app.view_functions.keys():
        view = app.ensure_sync(app.view_functions[endpoint])
        app.view_functions[endpoint] = _limited_view(limiter, POLICIES[endpoint], view)
    app.extensions["text_limits"] = {
        "limiter": limiter,
        "post": _limited(limiter, POSTS, "post", _named("post")),
        "comment": _limited(limiter, COMMENTS, "comment", _named("comment")),
    }
    post_published.connect(count_post, app)
    comment_saved.connect(count_comment, app)


def count_post(_sender: object, **_: object) -> None:
    """Count a post that a form publishes; TooManyRequests, if there were too many lately."""
    _count("post")


def count_comment(_sender: object, is_new: bool, **_: object) -> None:
    """Count a new comment; TooManyRequests, if there were too many lately."""
    if is_new:
        _count("comment")


def _count(text: str) -> None:
    limits = current_app.extensions["text_limits"]
    try:
        limits[text]()
    except RateLimitExceeded as error:
        raise _too_many(limits["limiter"]) from error


def _limited(limiter: Limiter, limit: Limit, scope: str, view: View) -> View:
    """The function, which can be called so often, else RateLimitExceeded."""

    def digest() -> str:
        """Whoever reads the storage learns no names or addresses."""
        return hashlib.blake2b(limit.key().encode(), digest_size=16).hexdigest()

    limited: View = limiter.shared_limit(
        limit.rate, scope, key_func=digest, exempt_when=lambda: not limit.key()
    )(view)
    return limited


def _limited_view(limiter: Limiter, policy: Policy, view: View) -> View:
    """The view within its limits, where its method is one of the policy's."""
    limited = view
    for limit in policy.limits:
        limited = _limited(limiter, limit, f"{policy.scope} {limit.key.__name__}", limited)

    @wraps(view)
    def answer(**values: object) -> ResponseReturnValue:
        if request.method not in policy.methods:
            return view(**values)
        try:
            response = make_response(limited(**values))
        except RateLimitExceeded as error:
            raise _too_many(limiter) from error
        except Exception:
            _refund(limiter)
            raise
        if not policy.counts(response):
            _refund(limiter)
        return response

    return answer


def _named(name: str) -> View:
    """A function that does nothing: what is limited is its call."""

    def count_text() -> str:
        return name

    count_text.__qualname__ = f"count {name}"  # by which Flask-Limiter tells functions apart
    return count_text


def _refund(limiter: Limiter) -> None:
    """Take back what the current request has counted, where the storage still answers."""
    counter = limiter.limiter
    try:
        for limit in limiter.current_limits:
            counter.hit(limit.limit, *limit.request_args, cost=-1)
    except counter.storage.base_exceptions:
        current_app.logger.warning("The storage of the rate limits does not answer.")


def _too_many(limiter: Limiter) -> TooManyRequests:
    """The 429 for the limit that the current request has met."""
    limit = limiter.current_limit
    seconds = max(1, ceil(limit.reset_at - time())) if limit else 1
    minutes = max(1, ceil((seconds - 1) / 60))  # Flask-Limiter adds a second
    sentence = f"That is too often. Nothing was saved; try again in {minutes} min."
    return TooManyRequests(sentence, retry_after=seconds)
