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

PLUGS_IN_LAST = True  # it wraps the views of all other extras
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

    def digest(self) -> str:
        """A digest of the key: whoever reads the storage learns no names or addresses."""
        return hashlib.blake2b(self.key().encode(), digest_size=16).hexdigest()

    def is_exempt(self) -> bool:
        """Whether the request is not counted."""
        return not self.key()


class Policy(NamedTuple):
    """Requests by these methods are counted under a name of LIMITS.

    They are counted before the view, which may be slow, and refunded unless the response `counts`.
    """

    name: str
    methods: set[str]
    counts: Callable[[Response], bool] = lambda _response: True


def is_password_wrong(_response: Response) -> bool:
    """Whether a password was checked, and was not the account's."""
    return bool(g.get("is_password_wrong"))


def is_redirect(response: Response) -> bool:
    """Whether the form was accepted."""
    return response.status_code == 303


LIMITS = {
    "log-in": [
        Limit("10 per 15 minutes", username_and_ip),  # a person mistypes a few times
        Limit("30 per 15 minutes", username),  # 8 characters last for ages
        Limit("50 per hour", client_ip),  # a household or school has many names
    ],
    "password": [Limit("10 per 15 minutes", user_id)],  # no stranger disturbs an open session
    "sign-up": [Limit("5 per hour", client_ip)],  # a family at a table
    "search": [Limit("60 per minute", client_ip)],  # faster than anybody reads
    # Counted when they are saved: a lively talk, not a flood.
    "post": [Limit("20 per hour", user_id)],
    "comment": [Limit("20 per 10 minutes", user_id)],
}
POLICIES = {
    "auth.log_in": Policy("log-in", {"POST"}, is_password_wrong),
    "account.change_password": Policy("password", {"POST"}, is_password_wrong),
    "account.delete": Policy("password", {"POST"}, is_password_wrong),
    "auth.sign_up": Policy("sign-up", {"POST"}, is_redirect),
    "search.show": Policy("search", {"GET", "HEAD"}),
}


def init_app(app: Blog) -> None:
    """Plug in: limit the views of POLICIES that are there, and what forms save.

    SettingError for a storage that there is not.
    """
    if app.config["RATE_LIMITS"] == "off":
        return
    seconds = STORAGE_SECONDS_MAX
    try:
        limiter = Limiter(
            client_ip,
            app=app,
            storage_uri=app.config["LIMITS_STORAGE"],
            storage_options={"socket_connect_timeout": seconds, "socket_timeout": seconds},
            in_memory_fallback_enabled=True,
            key_prefix="blog",
        )
    except (ConfigurationError, ValueError) as error:
        example = "redis://127.0.0.1:6379"
        raise SettingError(f"BLOG_LIMITS_STORAGE is no storage; try {example}.") from error
    app.extensions["rate_limits"] = limiter, {name: _counter(limiter, name) for name in LIMITS}
    for endpoint in POLICIES.keys() & app.view_functions.keys():
        view = app.ensure_sync(app.view_functions[endpoint])
        app.view_functions[endpoint] = _limited_view(limiter, POLICIES[endpoint], view)
    post_published.connect(count_post, app)
    comment_saved.connect(count_comment, app)


def count_post(_sender: object, **_: object) -> None:
    """Count a post that a form publishes; TooManyRequests, if there were too many lately."""
    _count("post")


def count_comment(_sender: object, is_new: bool, **_: object) -> None:
    """Count a new comment; TooManyRequests, if there were too many lately."""
    if is_new:
        _count("comment")


def _count(name: str) -> None:
    limiter, counters = current_app.extensions["rate_limits"]
    try:
        counters[name]()
    except RateLimitExceeded as error:
        seconds = max(1, ceil(limiter.current_limit.reset_at - time()))
        minutes = max(1, ceil((seconds - 1) / 60))  # Flask-Limiter adds a second
        sentence = f"That is too often. Nothing was saved; try again in {minutes} min."
        raise TooManyRequests(sentence, retry_after=seconds) from error


def _counter(limiter: Limiter, name: str) -> Callable[[], None]:
    """A function that does nothing: its calls are counted, and one too many is refused."""

    def count() -> None:
        pass

    count.__qualname__ = f"count {name}"  # by which Flask-Limiter tells functions apart
    limited = count
    for limit in LIMITS[name]:
        limited = limiter.shared_limit(
            limit.rate,
            f"{name} {limit.key.__name__}",
            key_func=limit.digest,
            exempt_when=limit.is_exempt,
        )(limited)
    return limited


def _limited_view(limiter: Limiter, policy: Policy, view: View) -> View:
    """The view within its limits, where its method is one of the policy's."""

    @wraps(view)
    def answer(**values: object) -> ResponseReturnValue:
        if request.method not in policy.methods:
            return view(**values)
        _count(policy.name)
        try:
            response = make_response(view(**values))
        except Exception:
            _refund(limiter)
            raise
        if not policy.counts(response):
            _refund(limiter)
        return response

    return answer


def _refund(limiter: Limiter) -> None:
    """Take back what the current request has counted, where the storage still answers."""
    counter = limiter.limiter
    try:
        for limit in limiter.current_limits:
            counter.hit(limit.limit, *limit.request_args, cost=-1)
    except counter.storage.base_exceptions:
        current_app.logger.warning("The storage of the rate limits does not answer.")
