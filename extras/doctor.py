"""`flask doctor`: what is wrong or risky about the blog as it is set up here.

"Wrong" is what lets others in, keeps people out or loses texts now, and makes the exit status 1;
"risky" is what may. Every command upgrades the database at its start, and says with status 1 if it
cannot.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import click
import sqlalchemy as sa
from flask import Blueprint, current_app

from core.database import UNAVAILABLE, Metadata, advisory_lock, atomic, db, location
from core.plugins import Blog, current_blog
from core.serving import PREFIX
from core.urls import HEALTH
from extras.backup import LAST_BACKUP
from models import User

BACKUP_DAYS = 7  # of which the words may be lost
FREE_BYTES_MIN = 16 * 1024 * 1024  # on the disk; as many as the largest request
ANSWER_MAX = 5  # seconds that the blog has to answer
LOCAL_HOSTS = (None, "localhost", "127.0.0.1", "::1")  # where nobody else listens
KEY = "fingerprint of the secret key"  # the name in Metadata
NEW_KEY = "The secret key is not the one that this database was used with."

commands = Blueprint("doctor", __name__, cli_group=None)


def init_app(app: Blog) -> None:
    """Plug in, and say in the log when the secret key has changed."""
    app.register_blueprint(commands)
    with app.app_context():
        noted = db.session.get(Metadata, KEY)
        # Before the first account, any key will do.
        if not noted or not User.any_exists():
            note_key()
        elif noted.value != app.config["KEY_FINGERPRINT"]:
            app.logger.warning(f"{NEW_KEY} If it is meant to be: flask doctor --accept-key")


def note_key() -> None:
    """Note the fingerprint of the present key as that of the database."""
    with suppress(*UNAVAILABLE), atomic():  # a later start can do it, too
        advisory_lock(db.session.connection())  # of servers that start at once, one inserts it
        fingerprint = current_app.config["KEY_FINGERPRINT"]
        db.session.merge(Metadata(name=KEY, value=fingerprint))


@commands.cli.command("doctor")
@click.option("--accept-key", is_flag=True, help="The secret key was changed on purpose.")
def doctor(accept_key: bool) -> None:
    """Say what is wrong or risky, and what to do. The exit status is 1 for what is wrong."""
    if accept_key:
        note_key()
    found = [*check_access(), *check_accounts(), *check_proxies(), *check_storage()]
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
    instance = Path(current_app.instance_path)
    files = (instance / "secret_key", instance / "config.toml", Path(current_app.root_path, ".env"))
    for path in files:
        if os.name == "posix" and path.exists() and path.stat().st_mode & 0o077:
            yield f"Wrong: Others on this machine can read {path}. Run chmod 600 on it."
    if config["SIGNUP"] == "open" and config["MODERATION"] == "none":
        advice = "Set BLOG_MODERATION=first or BLOG_SIGNUP=invite."
        yield f"Risky: Anybody can sign up, and what they say is shown at once. {advice}"
    if "limits" not in current_blog().extras:
        yield "Risky: Passwords can be tried without end. Add the extra limits to BLOG_EXTRAS."
    elif config["RATE_LIMITS"] == "off" and is_public:
        yield "Risky: Passwords can be tried without end. Unset BLOG_RATE_LIMITS."


def check_accounts() -> Iterator[str]:
    """Whether this is the database that has the accounts, and the key that it was used with."""
    config, noted = current_app.config, db.session.get(Metadata, KEY)
    hosts = {urlsplit(config["URL"] or "").hostname, config["HOST"]}
    # A folder may be lost with each deploy; a database that has a URL was meant.
    in_folder = Path(location()).parent == Path(current_app.instance_path)
    if not User.any_exists() and (in_folder or hosts - set(LOCAL_HOSTS)):
        advice = f"Sign up; if you have before, this is another database: {location()}"
        yield f"Risky: There is no account, and the first one will own the blog. {advice}"
    if noted and noted.value != config["KEY_FINGERPRINT"]:
        effect = "Everybody is logged out, and links for passwords and invitations do not work."
        advice = "Put the old one back, on every machine the same"
        yield f"Wrong: {NEW_KEY} {effect} {advice}; if it is meant: flask doctor --accept-key"


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
    is_sqlite = db.engine.dialect.name == "sqlite"
    if is_sqlite:
        folder = Path(str(db.engine.url.database)).parent
    try:
        with db.engine.begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = version_num"))
        # PostgreSQL has disks of its own, and uploads are spooled to that for temporary files.
        with tempfile.TemporaryFile(dir=folder if is_sqlite else None) as file:
            file.write(bytes(FREE_BYTES_MIN))
    except (OSError, sa.exc.DBAPIError) as error:
        place = folder if is_sqlite else "the folder for temporary files"
        reason = getattr(error, "orig", error)
        advice = "Free some space, or give the blog's user the right."
        yield f"Wrong: The database or {place} cannot be written ({reason}). {advice}"
    begin = time.time() - BACKUP_DAYS * 24 * 60 * 60
    if not last_backup.exists() or last_backup.stat().st_mtime < begin:
        yield f"Risky: No backup was made in {BACKUP_DAYS} days. Run flask backup FILE every day."
    for copy in sorted(folder.glob("*.before-*")):
        advice = "Delete it once you know that you need not go back."
        yield f"Risky: {copy} is from before an upgrade, with all that was deleted since. {advice}"
