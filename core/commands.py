"""What the `flask …` commands share."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Error as SQLiteError
from typing import TypeVar

import click

T = TypeVar("T")


class Command(click.Command):
    """A command whose arguments have to be text in UTF-8."""

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        """Refuse bytes that are no UTF-8, which Python replaces by these surrogates."""
        if re.search("[\udc80-\udcff]", "".join(words)):
            raise click.UsageError("An argument has bytes in it that are no text in UTF-8.")
        return super().parse_args(context, words)


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
