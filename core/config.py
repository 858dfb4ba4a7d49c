"""Every setting of the blog, with its default, its unit and its reason.

An environment variable `BLOG_<NAME>` goes over the same name in `instance/config.toml`, which goes
over the default here. Any setting of Flask and its extensions can be given in the same ways.
"""

import hashlib
import hmac
import os
import re
import secrets
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
from flask import Config, Flask

NAME = "Cool Blog Name"  # in the header and in titles
DESCRIPTION = ""  # one line under the name, and the pages' meta description
LANGUAGE = "en"  # of the posts: <html lang>, hyphenation, spelling
TIMEZONE = "UTC"  # in which dates are shown, for instance Europe/Berlin
DATABASE_URL = None  # postgresql://… or sqlite:///…; where it is unset, plain DATABASE_URL
SECRET_KEY = None  # signs the session cookies; generated once, in instance/secret_key
INSTANCE = None  # the folder for database, key and config.toml; instance/ beside app.py
URL = None  # the public address, with the path; requests for other hosts are refused then
PROXIES = 0  # reverse proxies in front whose X-Forwarded-… headers are believed
NEW_ACCOUNTS_MAY = "post"  # or "comment"
SIGNUP = "open"  # or "invite", or "closed"; the first account can always be made
MODERATION = "none"  # or "first": until one comment of an account is approved; or "all" comments
RATE_LIMITS = "on"  # or "off" on a trusted network or for a load test
LIMITS_STORAGE = "memory://"  # where hits are counted; redis://… where there are several servers
EXTRAS = "all"  # names, "all,likes", "all,-tags"; empty for none
THREADS = 16  # of the server, and its connections to the database
HOST, PORT = "127.0.0.1", 8000  # where `flask serve` listens; where it is unset, plain PORT
CACHE_MAX = 64 * 1024 * 1024  # bytes of cached pages in each process; 0 turns the cache off
MAX_CONTENT_LENGTH = 1024 * 1024  # bytes of a request; the longest post takes 600 kB as a form
MAX_FORM_MEMORY_SIZE = MAX_CONTENT_LENGTH  # the same for each field of a multipart form
PERMANENT_SESSION_LIFETIME = timedelta(days=30)  # of "keep me signed in"
WTF_CSRF_TIME_LIMIT = None  # a post may take hours to write; the token ends with the session
# 0.15 s and 32 MiB; some builds of Python have no scrypt.
PASSWORD_HASH = "scrypt:32768:8:1" if hasattr(hashlib, "scrypt") else "pbkdf2:sha256:1000000"
SESSION_COOKIE_NAME = None  # "blog_session_" and digits of the key: cookies know no ports
SESSION_COOKIE_SAMESITE = "Lax"
# No cookie can have this name: our sessions replace Flask-Login's remember cookie.
REMEMBER_COOKIE_NAME = ";"
SESSION_REFRESH_EACH_REQUEST = False  # a page that changes nothing sets no cookie
WTF_CSRF_SSL_STRICT = False  # some browsers send no Referer; the token suffices
# Text, whatever it looks like: Flask would read "1984" or "null" as JSON.
TEXTS = (
    *("DATABASE_URL", "DESCRIPTION", "EXTRAS", "HOST", "INSTANCE", "LANGUAGE", "LIMITS_STORAGE"),
    *("NAME", "TIMEZONE", "URL"),
)
CHOICES = {
    "NEW_ACCOUNTS_MAY": "post comment",
    "SIGNUP": "open invite closed",
    "MODERATION": "none first all",
    "RATE_LIMITS": "on off",
}
NUMBERS = {  # each with its range, and an example
    "PROXIES": (range(100), "1 proxy"),
    "CACHE_MAX": (range(sys.maxsize), "67108864 bytes"),
    "THREADS": (range(1, 1000), "16 threads"),
    "PORT": (range(1, 65536), "8000"),
}


class SettingError(click.ClickException, ValueError):
    """Which setting is wrong. `flask` shows it as a sentence, without a traceback."""


def instance_path() -> str | None:
    """The folder of BLOG_INSTANCE, from the blog's own folder on; None where it is not set.

    SettingError for the home of an unknown user.
    """
    folder = os.environ.get("BLOG_INSTANCE")
    try:
        return str(Path(__file__).parents[1] / Path(folder).expanduser()) if folder else None
    except RuntimeError as error:
        raise SettingError("BLOG_INSTANCE begins with ~, but that user has no home.") from error


def load(app: Flask, settings: Mapping[str, object]) -> None:
    """Fill `app.config`; SettingError where a value is wrong."""
    config, folder = app.config, Path(app.instance_path)
    config.from_object(__name__)
    _read_file(config, folder)
    config.from_prefixed_env("BLOG")
    config |= {name: os.environ[f"BLOG_{name}"] for name in TEXTS if f"BLOG_{name}" in os.environ}
    if "BLOG_PORT" not in os.environ and os.environ.get("PORT", "").isdecimal():
        config["PORT"] = int(os.environ["PORT"])
    config.update(settings)
    _check(config)
    config["SQLALCHEMY_DATABASE_URI"] = _database_url(config)
    with using(folder):
        key = str(config["SECRET_KEY"] or _stored_key(folder))
    config["SECRET_KEY"] = key
    digest = hmac.new(key.encode(), b"the name of the session's cookie", "sha256").hexdigest()
    config["KEY_FINGERPRINT"] = digest  # tells keys apart, and does not tell the key
    config["SESSION_COOKIE_NAME"] = config["SESSION_COOKIE_NAME"] or f"blog_session_{digest[:8]}"


def _read_file(config: Config, folder: Path) -> None:
    """Fill the settings from config.toml, if it is there."""
    try:
        with using(folder):
            config.from_file("config.toml", load=tomllib.load, silent=True, text=False)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{folder / 'config.toml'} is not in TOML: {error}.") from error


@contextmanager
def using(folder: Path) -> Iterator[None]:
    """SettingError where the system does not let the blog read or write in the folder."""
    try:
        yield
    except OSError as error:
        # In a folder of another user, which file is there cannot be seen.
        place = error.filename if os.path.lexists(error.filename or "") else folder
        reason = f"{place} cannot be used: {os.strerror(error.errno or 0)}"
        advice = "Let the blog's user write in that folder, or name another in BLOG_INSTANCE"
        raise SettingError(f"{reason}. {advice}.") from error


def _database_url(config: Config) -> str:
    """BLOG_DATABASE_URL, else DATABASE_URL, else that of a SQLite file in the instance folder."""
    name, url = "BLOG_DATABASE_URL", config["DATABASE_URL"]
    if url is None:
        name, url = "DATABASE_URL", os.environ.get("DATABASE_URL", "sqlite:///blog.db")
    if not str(url).strip():
        raise SettingError(f"{name} is set, but empty. Unset it for a SQLite file in instance/.")
    return str(url).strip()


def _check(config: Config) -> None:
    """SettingError, with a sentence for the operator, where a value is wrong."""
    try:
        config["ZONE"] = ZoneInfo(str(config["TIMEZONE"]))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # unknown; a path; a folder
        sentence = "BLOG_TIMEZONE is no time zone; try a name like Europe/Berlin."
        raise SettingError(sentence) from error
    for name, (numbers, example) in NUMBERS.items():
        if type(config[name]) is not int or config[name] not in numbers:
            raise SettingError(f"BLOG_{name} is a number, for instance of {example}.")
    for name, choices in CHOICES.items():
        if config[name] not in choices.split():
            raise SettingError(f"BLOG_{name} is one of these words: {choices}.")
    try:
        config["URL"] = _normal_url(str(config["URL"])) if config["URL"] else None
    except ValueError as error:
        sentence = (
            "BLOG_URL is a whole address, for instance https://blog.example/ or "
            "https://example.org/blog; its path has Latin letters, digits and -._~ alone."
        )
        raise SettingError(sentence) from error


def _normal_url(url: str) -> str:
    """The URL with its host as browsers send it, and without a slash at its end, else ValueError.

    Its path has only what needs no quoting in links.
    """
    parts = urlsplit(url)
    path = unquote(parts.path).rstrip("/")
    host = str(parts.hostname or "").rstrip(".").encode("idna").decode()
    is_whole = parts.scheme in ("http", "https") and host and not parts.query + parts.fragment
    if not is_whole or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path):
        raise ValueError(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{path}"


def _stored_key(folder: Path) -> str:
    """The key in the folder, generated on first use; processes that start at once share one."""
    if not (path := folder / "secret_key").exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A link appears whole or not at all, and never over another process's key.
        with tempfile.TemporaryDirectory(dir=folder) as drafts:
            draft = Path(drafts, path.name)
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_hex(32))
            try:
                path.hardlink_to(draft)
            except FileExistsError:
                pass
            except OSError:  # a file system without links, such as exFAT
                draft.replace(path)
    if not (key := path.read_text(errors="backslashreplace")).strip():
        advice = "Put the key back, or delete the file for a new one"
        raise SettingError(f"{path} is empty. {advice}.")
    return key
