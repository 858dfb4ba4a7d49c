"""Every setting of the blog, with its default, its unit and its reason.

An environment variable `BLOG_<NAME>` goes over the same name in `instance/config.toml`, which goes
over the default here. Any setting of Flask and its extensions can be given in the same ways.
"""

import hashlib
import os
import secrets
import tempfile
import tomllib
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from flask import Flask

# What visitors see
NAME = "Cool Blog Name"  # header, titles
DESCRIPTION = ""  # one line under the name, and the pages' meta description
LANGUAGE = "en"  # of the posts: <html lang>, hyphenation, spelling
TIMEZONE = "UTC"  # in which dates are shown, for instance Europe/Berlin

# Where it runs
DATABASE_URL = None  # postgresql://… or sqlite:///…; DATABASE_URL without BLOG_ is taken too
SECRET_KEY = None  # signs the session cookies; made once and kept in instance/secret_key
URL = None  # the blog's public address; where it is set, requests for other hosts are refused
PROXIES = 0  # reverse proxies in front whose X-Forwarded-… headers are believed

# Who may do what
NEW_ACCOUNTS_MAY = "post"  # or "comment"

# Limits
MAX_CONTENT_LENGTH = 1024 * 1024  # bytes of a request; the longest post takes 600 kB as a form
MAX_FORM_MEMORY_SIZE = MAX_CONTENT_LENGTH  # the same for each field of a multipart form
PERMANENT_SESSION_LIFETIME = timedelta(days=30)  # of "keep me signed in"
WTF_CSRF_TIME_LIMIT = None  # a post may take hours to write; the token ends with the session

# How it is done
PASSWORD_HASH = "scrypt:32768:8:1" if hasattr(hashlib, "scrypt") else "pbkdf2:sha256:1000000"
SESSION_COOKIE_NAME = "blog_session"  # other Flask applications on this host use "session"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_REFRESH_EACH_REQUEST = False  # a page that changes nothing sets no cookie
SQLALCHEMY_ENGINE_OPTIONS = {
    "hide_parameters": True,  # password hashes stay out of the log
    "pool_pre_ping": True,  # a restarted database server costs no request
    "pool_size": 16,  # one for each thread of the server
    "pool_timeout": 5,  # seconds until a crowded site answers 503
}


def load(app: Flask, settings: dict[str, Any]) -> None:
    """Fill `app.config`; ValueError, with a sentence for the operator, where a value is wrong."""
    Path(app.instance_path).mkdir(mode=0o700, parents=True, exist_ok=True)
    app.config.from_object(__name__)
    app.config.from_file("config.toml", load=tomllib.load, silent=True, text=False)
    app.config.from_prefixed_env("BLOG")
    app.config.from_mapping(settings)
    config = app.config

    try:
        config["ZONE"] = ZoneInfo(config["TIMEZONE"])
    except (ValueError, OSError, KeyError) as error:
        raise ValueError("BLOG_TIMEZONE is no time zone; try a name like Europe/Berlin.") from error
    if not isinstance(config["PROXIES"], int):
        raise ValueError("BLOG_PROXIES is the number of reverse proxies, for instance 1.")
    if config["NEW_ACCOUNTS_MAY"] not in ("post", "comment"):
        raise ValueError("BLOG_NEW_ACCOUNTS_MAY is either post or comment.")
    if config["URL"]:
        config["TRUSTED_HOSTS"] = [urlsplit(config["URL"]).hostname]

    url = config["DATABASE_URL"] or os.environ.get("DATABASE_URL") or "sqlite:///blog.db"
    scheme, _, rest = url.partition("://")
    scheme = {"postgres": "postgresql"}.get(scheme, scheme)
    config["SQLALCHEMY_DATABASE_URI"] = f"{scheme}://{rest}"
    config["SECRET_KEY"] = str(
        config["SECRET_KEY"] or _kept_key(Path(app.instance_path, "secret_key"))
    )


def _kept_key(path: Path) -> str:
    """The key in the file, made on first use; processes that start at once agree on one."""
    if not path.exists():
        descriptor, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        # A link appears whole or not at all, and never over another process's key.
        with suppress(FileExistsError):
            os.link(draft, path)
        Path(draft).unlink()
    return path.read_text()
