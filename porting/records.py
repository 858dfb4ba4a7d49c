"""What the readers and the writer share: records, the checks of their values, and the report."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
import yaml

from core.database import Base, UTCDateTime
from core.pagination import EARLIEST, EPOCH, NEVER, parse_id
from core.rendering import normalize_text
from extras.pictures import Picture
from models import Comment, Post, User

Fields = dict[str, Any]  # by column name: JSON, YAML, TOML and XML hold any type
Item = TypeVar("Item")

TEXT_MAX = 1024 * 1024  # bytes of a post's file or of a line; our exports need 0.3 million
MODELS = {"accounts": User, "posts": Post, "comments": Comment, "pictures": Picture}
NOT_EXPORTED = {"submission", "edited_at"}  # columns about forms, of no use in another blog
# Columns without which a record is not imported, if its table has them.
REQUIRED = {"username", "role", "body", "created_at", "published_at"}
BYTES_MAX = 900_000  # of any text; the form to edit it takes 1 MiB
TITLE_MAX = 2_000  # characters; each list shows ten titles


class Progress(Protocol):
    """A function that returns the same items, and shows the progress of a loop over them."""

    def __call__(self, items: Iterable[Item], label: str, length: int, /) -> Iterable[Item]: ...


def no_progress(items: Iterable[Item], _label: str, _length: int) -> Iterable[Item]:
    """The same items; shows nothing."""
    return items


@dataclass
class ExternalUser:
    """A user of another blog, who may have no account in this one."""

    name: str
    display_name: str = ""
    is_author: bool = True  # False: only a name on a comment, which anybody may have typed
    website: str = ""


@dataclass
class Record:
    """An account, post, comment or picture as it was read, not yet checked.

    Without an ExternalUser, the field "author" is the username of an account in the same file. A
    comment has the field "id" of its post in its field "post_id".
    """

    location: str  # in the source, for messages
    kind: str  # one of MODELS
    fields: Fields
    author: ExternalUser | None = None
    # The URLs or paths at which the source showed a post; links to them lead to the new one.
    addresses: Sequence[str] = ()


class UnsupportedError(ValueError):
    """The reason why a valid record has no place in this blog."""


@dataclass
class Report:
    """The result of an import: counts by kind of record, and sentences about single records."""

    added: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)  # already in the blog
    left_out: Counter[str] = field(default_factory=Counter)  # unsupported, by reason
    changed: Counter[str] = field(default_factory=Counter)  # what came in otherwise, and how
    details: list[str] = field(default_factory=list)  # each with its location, for --verbose
    skipped: list[str] = field(default_factory=list)  # invalid records
    not_fetched: list[str] = field(default_factory=list)  # attachments

    @property
    def is_complete(self) -> bool:
        """Whether everything that a user wrote or uploaded was imported."""
        return not (self.skipped or self.not_fetched or self.left_out.total())

    def leave_out(self, location: str, what: str, count: int = 1) -> None:
        """Count what has no place in this blog."""
        self.left_out[what] += count
        self.details.append(f"{location}: {what}: left out.")

    def change(self, location: str, what: str, count: int = 1) -> None:
        """Count what came in otherwise than it was: "titles (shortened)"."""
        self.changed[what] += count
        self.details.append(f"{location}: {what}.")

    @contextmanager
    def skipping(self, location: str) -> Iterator[None]:
        """Report an invalid or unsupported record instead of raising its error."""
        try:
            yield
        except UnsupportedError as error:
            self.leave_out(location, str(error))
        except RecursionError:
            self.skipped.append(f"{location}: it is nested too deeply.")
        except (ValueError, yaml.YAMLError) as error:
            self.skipped.append(f"{location}: {' '.join(str(error).split())}.")

    def sentences(self) -> list[str]:
        """The report for the user, with the counts at the end."""
        counters = {
            "Added": self.added,
            "Here already": self.known,
            "Changed": self.changed,
            "Left out": self.left_out,
            "Not fetched": Counter(attachments=len(self.not_fetched)),
            "Skipped": Counter({"bad records": len(self.skipped)}),
        }
        totals = []
        for label, counter in counters.items():
            counts = [f"{count:,} {name}" for name, count in counter.items() if count]
            if counts:
                totals.append(f"{label}: {', '.join(counts)}.")
        return [*self.not_fetched, *self.skipped, *(totals or ["There is nothing in it."])]


def exported_columns(model: type[Base]) -> dict[str, sa.Column[object]]:
    """The columns of a table that an export has, by name."""
    columns = Base.metadata.tables[model.__tablename__].columns
    return {column.name: column for column in columns if column.name not in NOT_EXPORTED}


def column_values(model: type[Base], fields: Fields, zone: tzinfo) -> Fields:
    """The fields in the types of the model's columns; ValueError for what no form would accept."""
    values = {}
    for name, column in exported_columns(model).items():
        value = fields.get(name)
        if value is not None:
            try:
                value = _convert(column, value, zone)
            except ValueError as error:
                raise ValueError(f"its {name} cannot be read: {str(value)[:40]}") from error
            values[name] = value
        if name in REQUIRED and not value:
            raise ValueError(f"it has no {name}")
        if isinstance(value, str):
            _check_length(column, value)
    return values


def _check_length(column: sa.Column[object], text: str) -> None:
    """ValueError if it is too long. Texts may be longer than forms allow, short names not."""
    length, most, unit = len(text), getattr(column.type, "length", None), "characters"
    if column is Base.metadata.tables[Post.__tablename__].columns["title"]:
        most = TITLE_MAX
    if not most:
        length, most, unit = len(text.encode()), BYTES_MAX, "bytes"
    if length > most:
        raise ValueError(f"its {column.name} has {length:,} {unit}; it can have {most:,}")


def _convert(column: sa.Column[object], field: object, zone: tzinfo) -> object:
    """The field in the Python type of the column; ValueError if it is of no such type."""
    if isinstance(column.type, sa.JSON | sa.LargeBinary):
        return field
    if isinstance(field, list | dict):
        raise ValueError(field)
    if isinstance(column.type, sa.Integer):
        return parse_id(field)
    if isinstance(column.type, sa.Boolean):
        return str(field).lower() == "true"
    if isinstance(column.type, UTCDateTime):
        # ISO 8601, also with Jekyll's space before the UTC offset.
        at = datetime.fromisoformat(re.sub(r" +(?=[-+Z])", "", str(field).strip()))
        at = at if at.tzinfo else at.replace(tzinfo=zone)
        # A post may be a letter of 1955, but no account is as old.
        earliest = EPOCH if column.table.name == "users" else EARLIEST
        if not earliest <= at <= NEVER:
            raise ValueError(field)
        return at
    text = normalize_text(str(field))
    is_line = getattr(column.type, "length", None)
    return " ".join(text.split()) if is_line else text
