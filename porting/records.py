"""What readers yield and the writer saves: records, and the limits that their values pass."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Literal

import sqlalchemy as sa
import yaml

from core.database import Base, UTCDateTime
from core.pagination import EPOCH, NEVER, parse_id
from core.rendering import normalize_text
from extras.account import ABOUT_MAX
from extras.pictures import Picture
from forms import COMMENT_MAX, POST_MAX
from models import Comment, Post, User

TEXT_MAX = 1024 * 1024  # bytes of a post's file or of a line; ours have at most 0.3 million
MODELS: dict[str, type[Base]] = {
    "accounts": User,
    "posts": Post,
    "comments": Comment,
    "pictures": Picture,
}
# What a form is known again by means nothing elsewhere.
NOT_EXPORTED = {"submission", "edited_at"}
NEEDED = {"username", "role", "title", "body", "created_at", "published_at"}  # in their records
# Characters of a table's texts that the database does not bound.
LENGTHS = {"users": ABOUT_MAX, "posts": POST_MAX, "comments": COMMENT_MAX}
Fields = dict[str, Any]
# What goes through things, with a label and their number, and shows how far it is.
Progress = Callable[[Iterable[Any], str, int], Iterable[Any]]


@dataclass
class Person:
    """Somebody from elsewhere, who may have no account here yet.

    An author logs in where they come from; anybody may have called themselves anything in a
    comment.
    """

    name: str
    display_name: str = ""
    is_author: bool = True


@dataclass
class Record:
    """One of the "accounts", "posts", "comments" or "pictures", with its fields as they are read.

    Its author is an account of the same file, by its username, or a Person. The comments of a post
    name its `id` as their "post_id".
    """

    place: str  # in the file, for messages
    noun: str
    fields: Fields
    author: str | Person = ""
    id: str = ""


@dataclass
class Problem:
    """Something that does not come in, and why: it is bad, or has no room here, or is elsewhere."""

    place: str
    reason: str
    kind: Literal["bad", "unfit", "not fetched"] = "bad"


def read(place: str, make: Callable[[], Record | Problem]) -> Record | Problem:
    """What is made of the file at that place, or the Problem with it."""
    try:
        return make()
    except RecursionError:
        return Problem(place, "it is nested too deeply")
    except (ValueError, yaml.YAMLError) as error:
        return Problem(place, " ".join(str(error).split()))


def no_progress(things: Iterable[Any], _label: str, _length: int) -> Iterable[Any]:
    """The same things, without showing it."""
    return things


def columns(model: type[Base]) -> list[sa.Column[Any]]:
    """The columns of a table that are in an export."""
    every = Base.metadata.tables[model.__tablename__].columns
    return [column for column in every if column.name not in NOT_EXPORTED]


def values(model: type[Base], fields: Fields, zone: tzinfo) -> Fields:
    """The fields' values for the model's columns; ValueError for what no form would take.

    Times without a zone are in `zone`.
    """
    found = {}
    for column in columns(model):
        name, given = column.name, fields.get(column.name)
        if given is not None:
            found[name] = _value(column, given, zone)
        if name in NEEDED and not found.get(name):
            raise ValueError(f"it has no {name}")
    return found


def _value(column: sa.Column[Any], given: Any, zone: tzinfo) -> Any:
    """What JSON, YAML, TOML or XML gives for a column, as the column has it."""
    name, length = column.name, getattr(column.type, "length", None)
    try:
        value = _convert(column, given, zone)
    except ValueError as error:
        raise ValueError(f"its {name} cannot be read: {str(given)[:40]}") from error
    if length:
        value = " ".join(value.split())
    most = length or LENGTHS.get(column.table.name, TEXT_MAX)
    if isinstance(value, str) and len(value) > most:
        raise ValueError(f"its {name} has {len(value):,} characters; it can have {most:,}")
    return value


def _convert(column: sa.Column[Any], given: Any, zone: tzinfo) -> Any:
    if isinstance(column.type, sa.JSON):
        return given
    if isinstance(given, list | dict):
        raise ValueError(given)
    if isinstance(column.type, UTCDateTime):
        return _time(given, zone)
    if isinstance(column.type, sa.Integer):
        return parse_id(given)
    if isinstance(column.type, sa.Boolean):
        return str(given).lower() == "true"
    if isinstance(column.type, sa.LargeBinary):
        return given
    return normalize_text(str(given))


def _time(given: Any, zone: tzinfo) -> datetime:
    """An aware time of a text in ISO 8601, or with a space before the zone as in Jekyll."""
    at = datetime.fromisoformat(re.sub(r" +(?=[-+Z])", "", str(given).strip()))
    at = at if at.tzinfo else at.replace(tzinfo=zone)
    if not EPOCH <= at <= NEVER:
        raise ValueError(given)
    return at
