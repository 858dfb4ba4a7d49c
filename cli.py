"""The `flask …` commands."""

import os
import random
import re
import secrets
import shlex
import socket
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa
from flask import current_app, url_for
from flask.cli import AppGroup

import porting
import search
from database import atomic, copy_sqlite, db, now
from doctor import LAST_BACKUP, doctor
from models import Comment, Post, User
from security import INVITATION_DAYS, hash_password, invitation_token, reset_token

SAMPLE = Path(__file__).parent / "demo.toml"
LOCAL_URL = "http://127.0.0.1:8000/"  # where `flask serve` listens
CHUNK = 1000  # made-up rows in one transaction


class Command(click.Command):
    """A command whose arguments are text, which databases and terminals take."""

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        """Refuse other bytes, which Python turns into these surrogates."""
        if re.search("[\udc80-\udcff]", "".join(words)):
            raise click.UsageError("An argument has bytes in it that are no text in UTF-8.")
        return super().parse_args(context, words)


# Requests that wait for a thread beyond those that are answered; browsers open six each.
BACKLOG = 8  # times as many as threads
STOP_MAX = 3  # seconds that requests in flight get when the server stops

commands = AppGroup()  # they run in the context of the blog
commands.command_class = Command


@commands.command()
@click.option("--host", help="The address to listen at; BLOG_HOST, 127.0.0.1.")
@click.option("--port", type=click.IntRange(1, 65535), help="BLOG_PORT, PORT, 8000.")
def serve(host: str | None, port: int | None) -> None:
    """Serve the blog with Granian until Ctrl-C."""
    config = current_app.config
    host, port = host or config["HOST"], port or config["PORT"]
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        reason = f"{host}:{port} is taken or not of this machine ({error.strerror})"
        raise click.ClickException(f"{reason}. Try another: flask serve --port 8080") from error
    click.echo(f"The blog is at http://{host}:{port}: Ctrl-C stops it.")
    threads = config["THREADS"]
    words = [sys.executable, "-m", "granian", "--interface", "wsgi", "--factory"]
    words += ["--blocking-threads", str(threads), "--backpressure", str(threads * BACKLOG)]
    words += ["--workers-kill-timeout", str(STOP_MAX)]
    words += ["--host", host, "--port", str(port), "app:create_app"]
    db.engine.dispose()
    if os.name == "posix":
        sys.stdout.flush()
        os.chdir(current_app.root_path)
        os.execv(sys.executable, words)
    click.get_current_context().exit(subprocess.call(words, cwd=current_app.root_path))


@commands.command()
def reindex() -> None:
    """Make the index of the search anew."""
    search.rebuild()
    click.echo("The search index is made anew.")


@commands.command()
@click.option("--posts", type=click.IntRange(0), default=0, help="Add this many made-up posts.")
@click.option("--comments", type=click.IntRange(0), default=0, help="And this many comments.")
def demo(posts: int, comments: int) -> None:
    """Fill an empty blog with sample people, posts and comments."""
    if db.session.scalar(sa.select(sa.exists(sa.select(User.id)))):
        raise click.ClickException("The blog is not empty, so nothing was added.")
    sample = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
    password = secrets.token_urlsafe(9)
    password_hash = hash_password(password)
    with atomic():
        people = {name: User.create(name, password_hash, "post") for name in sample["people"]}
        for entry in sample["posts"]:
            add_sample(entry, people)
    add_bulk(posts, comments, [user.id for user in people.values()], sample["words"].split())
    click.echo(f"Log in as {' or '.join(people)} with the password {password}")
    click.echo(f"The blog is {next(iter(people))}'s: the first account is its owner.")


def add_sample(entry: dict[str, Any], people: dict[str, User]) -> None:
    """Add a post of the sample with its comments."""
    answers = entry.pop("comments", [])
    post = Post(**entry | {"author": people[entry["author"]]})
    Post.save(post)
    for minutes, answer in enumerate(answers, start=1):
        at = post.published_at + timedelta(minutes=minutes)
        author = people[answer["author"]]
        db.session.add(Comment(post=post, author=author, body=answer["body"], created_at=at))


def add_bulk(posts: int, comments: int, authors: list[int], words: list[str]) -> None:
    """Add posts, five minutes apart until now, and comments on any of them, alike in every run."""
    chance, end = random.Random(posts), now()

    def post(number: int) -> Post:
        return Post(
            author_id=chance.choice(authors),
            title=prose(chance, words, 1).rstrip("."),
            body="\n\n".join(prose(chance, words, 6) for _ in range(chance.randint(1, 6))),
            tags=sorted(chance.sample(words, 3)),
            published_at=end - timedelta(minutes=5 * (posts - number)),
        )

    for numbers in chunks(posts, "posts"):
        with atomic():
            Post.save(*[post(number) for number in numbers])
        db.session.expunge_all()  # or they fill the memory
    ids = db.session.scalars(sa.select(Post.id)).all()
    for numbers in chunks(comments, "comments"):
        rows = [
            {
                "post_id": chance.choice(ids),
                "author_id": chance.choice(authors),
                "body": prose(chance, words, 3),
            }
            for _ in numbers
        ]
        with atomic():
            db.session.execute(sa.insert(Comment), rows)


def chunks(count: int, label: str) -> Iterable[range]:
    """The numbers below `count`, some at a time, with a progress bar."""
    starts = range(0, count, CHUNK)
    for start in progress(starts, label, len(starts)):
        yield range(start, min(start + CHUNK, count))


def prose(chance: random.Random, words: list[str], most: int) -> str:
    """At most that many sentences of these words."""
    lengths = chance.choices(range(4, 14), k=chance.randint(1, most))
    return " ".join(" ".join(chance.choices(words, k=n)).capitalize() + "." for n in lengths)


@commands.command()
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path) -> None:
    """Copy the database to a new FILE, while the blog runs."""
    path, instance = db.engine.url.database, Path(current_app.instance_path)
    trace = instance / LAST_BACKUP
    if db.engine.dialect.name == "postgresql":
        source = db.engine.url.set(drivername="postgresql", password=None).render_as_string()
        line = shlex.join(["pg_dump", "--format=custom", f"--file={file}", source])
        raise click.ClickException(
            "PostgreSQL has a program for that, which asks for the password or takes it from "
            f"~/.pgpass:\n{line} && touch {shlex.quote(str(trace))}"
        )
    with made(file):
        copy_sqlite(db.engine, file)
    with suppress(OSError):  # a full disk here spoils no copy elsewhere
        trace.touch()
    click.echo(
        f"{file} is a checked copy of the database. To restore it, stop the blog, delete "
        f"{path}-wal and {path}-shm, and put it in the place of {path}.\n"
        f"The secret key is not in it: keep a copy of {instance / 'secret_key'} too."
    )


@contextmanager
def made(file: Path) -> Iterator[None]:
    """Say in a sentence why a command cannot make its file."""
    try:
        yield
    except FileExistsError as error:
        raise click.ClickException(f"{file} exists and was left alone. Name a new file.") from error
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.ClickException(f"{file} was not made: {reason}.") from error


@commands.command("reset-link")
@click.argument("name")
def reset_link(name: str) -> None:
    """Print a link by which the person of that NAME can set a new password, once."""
    user = db.session.scalar(User.named(name))
    if not user:
        raise click.ClickException(f"There is no account called {name}.")
    click.echo(public_url("blog.reset_password", token=reset_token(user)))


@commands.command()
@click.option("--days", type=click.IntRange(1, 365), default=INVITATION_DAYS, help="Until it ends.")
@click.option("--may", type=click.Choice(["post", "comment"]), help="What the new account may do.")
def invite(days: int, may: str | None) -> None:
    """Print a link by which one person can sign up."""
    if current_app.config["SIGNUP"] == "closed":
        raise click.ClickException("Sign-up is closed, for the invited too: BLOG_SIGNUP=invite.")
    token = invitation_token(may or current_app.config["NEW_ACCOUNTS_MAY"], days)
    click.echo(public_url("blog.sign_up", invitation=token))


def public_url(endpoint: str, **values: str) -> str:
    """The whole address of a page, as far as the settings tell it."""
    with current_app.test_request_context(base_url=current_app.config["URL"] or LOCAL_URL):
        return url_for(endpoint, **values, _external=True)


@commands.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export(file: Path) -> None:
    """Write the whole blog to a new FILE.zip, as Markdown, JSON lines and pictures."""
    with made(file), ExitStack() as undo:
        file.touch(mode=0o600, exist_ok=False)
        undo.callback(file.unlink)
        with file.open("wb") as target:
            porting.export(target, track=progress)
        undo.pop_all()
    click.echo(f"{file} holds the blog. It has password hashes in it: keep it to yourself.")


@commands.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--author", default="", help="Whose posts are those that name no author.")
def import_(file: Path, author: str) -> None:
    """Read an export of a blog, of WordPress, or a folder of Markdown files. Repeat it at will.

    The exit status is 1 when anything was left out that a person wrote.
    """
    try:
        report = porting.load(file, current_app.config["ZONE"], author, progress)
    except (ValueError, OSError) as error:
        raise click.ClickException(f"Nothing was imported: {error}") from error
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
        raise click.ClickException(f"Not finished: {reason}. Repeat it to go on.") from error
    for sentence in report.sentences():
        click.echo(sentence.encode(errors="replace").decode())  # names of files may be odd
    click.get_current_context().exit(0 if report.is_complete else 1)


def progress(things: Iterable[Any], label: str, length: int) -> Iterable[Any]:
    """The same things, behind a progress bar."""
    with click.progressbar(things, length, label=label, hidden=not length) as bar:
        yield from bar


COMMANDS = [*commands.commands.values(), doctor]
