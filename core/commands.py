"""`flask serve`, and what the commands of extras share."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Error as SQLiteError
from typing import TypeVar

import click
from flask import current_app
from flask.cli import AppGroup

from core.database import db

BACKLOG = 8  # requests that wait, as a multiple of the threads; browsers open six connections
STOP_SECONDS_MAX = 3  # that requests in flight get when the server stops

T = TypeVar("T")
commands = AppGroup()  # they run in the context of the blog


class Command(click.Command):
    """A command whose arguments are text, which databases and terminals can take."""

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        """Refuse other bytes, which Python turns into these surrogates."""
        if re.search("[\udc80-\udcff]", "".join(words)):
            raise click.UsageError("An argument has bytes in it that are no text in UTF-8.")
        return super().parse_args(context, words)


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
    words += ["--workers-kill-timeout", str(STOP_SECONDS_MAX)]
    words += ["--host", host, "--port", str(port), "app:create_app"]
    db.engine.dispose()
    if os.name == "posix":
        sys.stdout.flush()
        os.chdir(current_app.root_path)
        os.execv(sys.executable, words)
    click.get_current_context().exit(subprocess.call(words, cwd=current_app.root_path))


def progress(items: Iterable[T], label: str, length: int) -> Iterable[T]:
    """The same items, behind a progress bar."""
    with click.progressbar(items, length, label=label, hidden=not length) as bar:
        yield from bar


@contextmanager
def creating(file: Path) -> Iterator[None]:
    """Say in a sentence why a command cannot make its file."""
    try:
        yield
    except FileExistsError as error:
        raise click.ClickException(f"{file} exists and was left alone. Name a new file.") from error
    except (OSError, SQLiteError) as error:
        reason = getattr(error, "strerror", None) or error
        raise click.ClickException(f"{file} was not made: {reason}.") from error
