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

from flask import Flask, Response, current_app, g, make_response, request
from flask.typing import ResponseReturnValue
from flask_limiter import Limiter, RateLimitExceeded, RouteLimit
from flask_login import current_user
from werkzeug.exceptions import TooManyRequests

View = Callable[..., ResponseReturnValue]
# Some proxies add the port: an IPv6 address in brackets or an IPv4 address, and a port.
WITH_PORT = re.compile(r"\[(?P<ipv6>.+)\](:\d+)?|(?P<ipv4>[\d.]+):\d+")
STORAGE_MAX = 1  # seconds until a storage that does not answer is left alone for some time


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


def user() -> str:
    """The id of who is logged in, or ""."""
    return str(current_user.id or "")


def is_password_wrong(_response: Response) -> bool:
    """Whether a password was checked, and was not the account's."""
    return bool(g.get("is_password_wrong"))


def is_redirect(response: Response) -> bool:
    """Whether the form was accepted."""
    return response.status_code == 303


class Limit(NamedTuple):
    """A rate in Flask-Limiter's words, and whose requests are counted together ("": not)."""

    rate: str
    key: Callable[[], str]


class Policy(NamedTuple):
    """The limits of a view. They count a request before the view, which may be slow.

    Where `counts` says no of the response, the hit is refunded.
    """

    scope: str
    methods: list[str]
    limits: list[Limit]
    counts: Callable[[Response], bool] = lambda _response: True


OWN_PASSWORD = Policy(
    "own password",
    ["POST"],
    [Limit("10 per 15 minutes", user)],  # no stranger's attempts disturb an open session
    is_password_wrong,
)
POLICIES = {
    "blog.log_in": Policy(
        "log-in",
        ["POST"],
        [
            Limit("10 per 15 minutes", username_and_ip),  # a person mistypes a few times
            Limit("30 per 15 minutes", username),  # 8 characters last for ages
            Limit("50 per hour", client_ip),  # a household or school has many names
        ],
        is_password_wrong,
    ),
    "blog.change_password": OWN_PASSWORD,
    "blog.delete_account": OWN_PASSWORD,
    # A family at a table.
    "blog.sign_up": Policy("sign-up", ["POST"], [Limit("5 per hour", client_ip)], is_redirect),
    # Faster than anybody reads.
    "blog.search_posts": Policy("search", ["GET"], [Limit("60 per minute", client_ip)]),
}
# Counted when they are saved: a lively talk, not a flood.
TEXTS = {"post": Limit("20 per hour", user), "comment": Limit("20 per 10 minutes", user)}


def init_app(app: Flask) -> None:
    """Limit the views of POLICIES, which are registered, and `count`."""
    if app.config["RATE_LIMITS"] == "off":
        return
    limiter = Limiter(
        client_ip,
        app=app,
        storage_uri=app.config["LIMITS_STORAGE"],
        storage_options=_storage_options(app.config["LIMITS_STORAGE"]),
        in_memory_fallback_enabled=True,
        key_prefix="blog",
    )
    for endpoint, policy in POLICIES.items():
        view: View = app.ensure_sync(app.view_functions[endpoint])
        for limit in policy.limits:
            view = _limited(limiter, limit, policy.scope, policy.methods)(view)
        app.view_functions[endpoint] = _refunding(limiter, policy, view)
    app.extensions["rate_limiter"] = limiter
    app.extensions["text_limits"] = {
        name: _limited(limiter, limit, name)(_counter(name)) for name, limit in TEXTS.items()
    }


def _storage_options(uri: str) -> dict[str, str | int]:
    if uri.startswith("memory:"):
        return {}
    return {"socket_connect_timeout": STORAGE_MAX, "socket_timeout": STORAGE_MAX}


def _limited(
    limiter: Limiter, limit: Limit, scope: str, methods: list[str] | None = None
) -> RouteLimit:
    """A decorator that lets a function be called so often."""

    def key() -> str:
        """Whoever reads the storage learns no names or addresses."""
        return hashlib.blake2b(limit.key().encode(), digest_size=16).hexdigest()

    return limiter.shared_limit(
        limit.rate,
        f"{scope} {limit.key.__name__}",
        key_func=key,
        methods=methods,
        exempt_when=lambda: not limit.key(),
    )


def _refunding(limiter: Limiter, policy: Policy, view: View) -> View:
    """The limited view, which refunds a hit that does not count."""

    @wraps(view)
    def limited_view(**values: object) -> ResponseReturnValue:
        try:
            response = make_response(view(**values))
        except RateLimitExceeded as error:
            raise _too_many(limiter) from error
        except Exception:
            _refund(limiter)
            raise
        if not policy.counts(response):
            _refund(limiter)
        return response

    return limited_view


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
    seconds = max(1, limit.reset_at - int(time())) if limit else 1
    minutes = ceil(seconds / 60)
    sentence = f"That is too often. Nothing was saved; try again in {minutes} min."
    return TooManyRequests(sentence, retry_after=seconds)


def _counter(name: str) -> Callable[[], None]:
    def count_text() -> None:
        """Do nothing: what is limited is the call."""

    count_text.__qualname__ = f"count {name}"  # by which Flask-Limiter tells functions apart
    return count_text


def count(text: str) -> None:
    """Count a "post" or a "comment" of who is logged in, in the transaction that saves it.

    TooManyRequests if there were too many lately.
    """
    if current_app.config["RATE_LIMITS"] == "off":
        return
    try:
        current_app.extensions["text_limits"][text]()
    except RateLimitExceeded as error:
        raise _too_many(current_app.extensions["rate_limiter"]) from error
