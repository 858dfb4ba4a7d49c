"""`flask doctor`: what is wrong or risky about the blog as it is set up here.

"Wrong" is what lets others in or loses texts now, and makes the exit status 1; "risky" is what may.
Every command upgrades the database at its start, and says with status 1 if it cannot.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import click
import sqlalchemy as sa
from flask import Blueprint, current_app

from core.database import db
from core.plugins import Blog, current_blog
from core.serving import PREFIX
from core.urls import HEALTH
from extras.backup import LAST_BACKUP

BACKUP_DAYS = 7  # of which the words may be lost
FREE_BYTES_MIN = 16 * 1024 * 1024  # on the disk; as many as the largest request
ANSWER_MAX = 5  # seconds that the blog has to answer
LOCAL_HOSTS = (None, "localhost", "127.0.0.1", "::1")  # where nobody else listens

commands = Blueprint("doctor", __name__, cli_group=None)


def init_app(app: Blog) -> None:
    """Plug in."""
    app.register_blueprint(commands)


@commands.cli.command("doctor")
def doctor() -> None:
    """Say what is wrong or risky, and what to do. The exit status is 1 for what is wrong."""
    found = [*check_access(), *check_proxies(), *check_storage()]
    found.sort(key=lambda sentence: sentence.startswith("Risky"))
    click.echo("\n".join(found) or "All is well.")
    click.get_current_context().exit(any(text.startswith("Wrong") for text in found))


def check_access() -> Iterator[str]:
    """What lets others in: sentences that begin with Wrong or Risky, and say what to do."""
    config, url = current_app.config, urlsplit(current_app.config["URL"] or "")
    is_public = url.hostname not in LOCAL_HOSTS or config["PROXIES"] > 0
    if current_app.debug and is_public:
        yield "Wrong: Debug mode lets visitors run code after an error. Unset FLASK_DEBUG."
    if url.scheme == "http" and url.hostname not in LOCAL_HOSTS:
        yield "Wrong: BLOG_URL is http: others can read passwords. Let a proxy speak https."
    for name in ("secret_key", "config.toml"):
        path = Path(current_app.instance_path, name)
        if os.name == "posix" and path.exists() and path.stat().st_mode & 0o077:
            yield f"Wrong: Others on this machine can read {path}. Run chmod 600 on it."
    if config["SIGNUP"] == "open" and config["MODERATION"] == "none":
        advice = "Set BLOG_MODERATION=first or BLOG_SIGNUP=invite."
        yield f"Risky: Anybody can sign up, and what they say is shown at once. {advice}"
    if "limits" not in current_blog().extras:
        yield "Risky: Passwords can be tried without end. Add the extra limits to BLOG_EXTRAS."
    elif config["RATE_LIMITS"] == "off" and is_public:
        yield "Risky: Passwords can be tried without end. Unset BLOG_RATE_LIMITS."


def check_proxies() -> Iterator[str]:
    """Whether the proxies are declared, and their headers arrive at the blog that runs."""
    count, url = current_app.config["PROXIES"], urlsplit(current_app.config["URL"] or "")
    if url.path or (url.scheme == "https" and count):
        yield from check_answer(url, count)
    if url.scheme == "https" and not count:
        effect = "all visitors seem to come from the proxy, and by http"
        yield f"Risky: BLOG_URL is https, but BLOG_PROXIES is 0: {effect}. Set BLOG_PROXIES=1."
    elif url.scheme != "https" and count:
        advice = "Set BLOG_URL to the public address, with https."
        yield f"Risky: BLOG_PROXIES is {count}, but whether they are there is unknown. {advice}"


def check_answer(url: SplitResult, count: int) -> Iterator[str]:
    """What is wrong with the answer of the blog that runs behind so many proxies at that URL."""
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    try:
        with closing(kind(url.netloc, timeout=ANSWER_MAX)) as connection:
            # To a server, this is X-Forwarded-Proto: a proxy must not pass it on.
            forged = {"X_Forwarded_Proto": "http"}
            connection.request("GET", f"{url.path}{HEALTH}", headers=forged)
            answer = connection.getresponse()
    except (OSError, HTTPException) as error:
        advice = "Start the blog, or look at its proxy and its name."
        yield f"Risky: {url.geturl()} cannot be asked from here ({error}). {advice}"
        return
    if answer.status != 200:
        advice = "Look where its proxy leads, and whether the database is there."
        yield f"Risky: {url.geturl()}{HEALTH} answers {answer.status}. {advice}"
        return
    # The blog sends this header when it is told that the visitor came by https.
    if url.scheme == "https" and count and not answer.getheader("Strict-Transport-Security"):
        fault = f"BLOG_PROXIES is {count}, but so many were never seen, or believe visitors"
        advice = "drop headers with underscores in their names, or correct the number"
        yield f"Wrong: {fault}. Let every proxy set X-Forwarded-Proto and {advice}."
    prefix = answer.getheader(PREFIX, url.path)
    if prefix.rstrip("/") != url.path:
        advice = "Let the proxy not set it, or correct the path of BLOG_URL."
        yield f"Risky: A proxy sets {PREFIX} to {prefix!r}, which BLOG_URL contradicts. {advice}"


def check_storage() -> Iterator[str]:
    """Whether the database can be written, and was backed up."""
    folder = Path(current_app.instance_path)
    last_backup = folder / LAST_BACKUP
    if db.engine.dialect.name == "sqlite":
        folder = Path(str(db.engine.url.database)).parent
    try:
        with db.engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = version_num"))
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(FREE_BYTES_MIN))
    except (OSError, sa.exc.DBAPIError) as error:
        reason = getattr(error, "orig", error)
        advice = "Free some space, or give the blog's user the right."
        yield f"Wrong: The database or {folder} cannot be written ({reason}). {advice}"
    begin = time.time() - BACKUP_DAYS * 24 * 60 * 60
    if not last_backup.exists() or last_backup.stat().st_mtime < begin:
        yield f"Risky: No backup was made in {BACKUP_DAYS} days. Run flask backup FILE every day."
    for copy in sorted(folder.glob("*.before-*")):
        advice = "Delete it once you know that you need not go back."
        yield f"Risky: {copy} is from before an upgrade, with all that was deleted since. {advice}"
