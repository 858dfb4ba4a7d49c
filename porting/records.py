"""What readers yield and the writer saves: records, and the checks of their values."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Literal, Protocol, TypeVar

import sqlalchemy as sa
import yaml

from core.database import Base, UTCDateTime
from core.pagination import EPOCH, NEVER, parse_id
from core.rendering import normalize_text
from extras.account import ABOUT_MAX
from extras.pictures import Picture
from forms import COMMENT_MAX, POST_MAX
from models import Comment, Post, User

Kind = Literal["accounts", "posts", "comments", "pictures"]
Fields = dict[str, Any]  # by column name, unchecked: JSON, YAML, TOML and XML hold any type
Values = dict[str, object]  # by column name, converted and checked
Item = TypeVar("Item")

TEXT_MAX = 1024 * 1024  # bytes of a post's file or of a line; our exports need 0.3 million
MODELS: dict[Kind, type[Base]] = {
    "accounts": User,
    "posts": Post,
    "comments": Comment,
    "pictures": Picture,
}
NOT_EXPORTED = {"submission", "edited_at"}  # columns about forms, of no use in another blog
# Columns without which a record is not imported, if its table has them.
REQUIRED = {"username", "role", "title", "body", "created_at", "published_at"}
# Characters of a text whose column has no length in the database, by table.
LENGTHS_MAX = {"users": ABOUT_MAX, "posts": POST_MAX, "comments": COMMENT_MAX}


class Progress(Protocol):
    """A function that shows the progress of a loop over items."""

    def __call__(self, items: Iterable[Item], label: str, length: int, /) -> Iterable[Item]:
        """The same items; `length` is their number."""


@dataclass
class ExternalUser:
    """A user of another blog, who may have no account in this one."""

    name: str
    display_name: str = ""
    is_author: bool = True  # False: only a name on a comment, which anybody may have typed


@dataclass
class Record:
    """An account, post, comment or picture as it was read, not yet checked.

    The `author` is the username of an account in the same file, or an ExternalUser. A comment has
    the `id` of its post in the field "post_id".
    """

    location: str  # in the source, for messages
    kind: Kind
    fields: Fields
    author: str | ExternalUser = ""
    id: str = ""  # in the source


@dataclass
class Problem:
    """The reason why something in the source is not imported."""

    location: str
    reason: str
    category: Literal["invalid", "unsupported", "not fetched"] = "invalid"


Parsed = Record | Problem


def record_or_problem(location: str, parse: Callable[[], Parsed]) -> Parsed:
    """The result of `parse()`, or the Problem if the source is invalid at that location."""
    try:
        return parse()
    except RecursionError:
        return Problem(location, "it is nested too deeply")
    except (ValueError, yaml.YAMLError) as error:
        return Problem(location, " ".join(str(error).split()))


def no_progress(items: Iterable[Item], _label: str, _length: int) -> Iterable[Item]:
    """The same items; shows nothing."""
    return items


def exported_columns(model: type[Base]) -> list[sa.Column[object]]:
    """The columns of a table that an export has."""
    columns = Base.metadata.tables[model.__tablename__].columns
    return [column for column in columns if column.name not in NOT_EXPORTED]


def column_values(model: type[Base], fields: Fields, zone: tzinfo) -> Values:
    """The fields, converted to the types of the model's columns.

    Times without a zone are in `zone`. ValueError for what a form would not accept.
    """
    values: Values = {}
    for column in exported_columns(model):
        name = column.name
        field = fields.get(name)
        if field is not None:
            values[name] = _column_value(column, field, zone)
        if name in REQUIRED and not values.get(name):
            raise ValueError(f"it has no {name}")
    return values


def _column_value(column: sa.Column[object], field: object, zone: tzinfo) -> object:
    """The field as its column stores it; ValueError with the column's name."""
    try:
        value = _convert(column, field, zone)
    except ValueError as error:
        raise ValueError(f"its {column.name} cannot be read: {str(field)[:40]}") from error
    if not isinstance(value, str):
        return value
    length = getattr(column.type, "length", None)
    if length:
        value = " ".join(value.split())  # such columns hold one line
    length_max = length or LENGTHS_MAX.get(column.table.name, TEXT_MAX)
    if len(value) > length_max:
        raise ValueError(
            f"its {column.name} has {len(value):,} characters; it can have {length_max:,}"
        )
    return value


def _convert(column: sa.Column[object], field: object, zone: tzinfo) -> object:
    """The field in the Python type of the column; ValueError if it is of no such type."""
    if isinstance(column.type, sa.JSON):
        return field
    if isinstance(field, list | dict):
        raise ValueError(field)
    if isinstance(column.type, UTCDateTime):
        return _parse_time(str(field), zone)
    if isinstance(column.type, sa.Integer):
        return parse_id(field)
    if isinstance(column.type, sa.Boolean):
        return str(field).lower() == "true"
    if isinstance(column.type, sa.LargeBinary):
        return field
    return normalize_text(str(field))


def _parse_time(text: str, zone: tzinfo) -> datetime:
    """An aware time from a text in ISO 8601, also with Jekyll's space before the UTC offset."""
    at = datetime.fromisoformat(re.sub(r" +(?=[-+Z])", "", text.strip()))
    if not at.tzinfo:
        at = at.replace(tzinfo=zone)
    if not EPOCH <= at <= NEVER:
        raise ValueError(text)
    return at
