"""A folder of Markdown files with front matter, as Hugo and Jekyll have them. It asks no database.

Our own reader of front matter: python-frontmatter raises on colons, makes 1984 a number and "no"
false, and expands aliases without bound.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import yaml

from core.pagination import EPOCH, NEVER
from core.rendering import normalize_text
from porting.records import TEXT_MAX, Fields, Person, Problem, Progress, Record, read

FRONT_MAX = 10_000  # characters of front matter; ours has 800
BRACKETS_MAX = 200  # in it; thousands within each other take seconds
FRONT = re.compile(r"\ufeff?(---|\+\+\+)[ \t]*\n((?:.*\n)*?)\1[ \t]*(?:\n\n?|\Z)([\s\S]*)")
# The same in JSON, which has no mark around it.
JSON_FRONT = re.compile(r"\ufeff?()(\{\n(?:.*\n)*?\})[ \t]*(?:\n\n?|\Z)([\s\S]*)")
# A file's name, as Jekyll gives it; Hugo's pages of lists are not meant.
FILE = re.compile(r"(?!_index\.)(\d{4}-\d\d-\d\d)?-?(.*)\.(?:md|markdown)")
UNPUBLISHED = {("state", "draft"), ("draft", "true"), ("published", "false")}  # in front matter


def records(folder: Path, author: str, progress: Progress) -> Iterator[Record | Problem]:
    """Every Markdown file below the folder; `author` has written those that name no author."""
    files = [path for path in sorted(folder.rglob("*.m*")) if FILE.fullmatch(path.name)]
    files = [path for path in files if path.is_file()]
    for path in progress(files, "files", len(files)):
        place = str(path.relative_to(folder))
        yield read(place, partial(_record, path, place, author))


def _record(path: Path, place: str, author: str) -> Record:
    with path.open("rb") as file:
        fields = post(PurePath(place), file.read(TEXT_MAX))
    authors = fields.get("author") or fields.get("authors") or author
    name = str(authors[0] if isinstance(authors, list) else authors)
    return Record(place, "posts", fields | {"id": None}, Person(name))


def post(path: PurePath, text: bytes) -> Fields:
    """The fields of the post in a file of ours, of Hugo or of Jekyll; ValueError for none."""
    front, body = _front(normalize_text(text.decode()))
    day, slug = FILE.findall(path.name)[0]
    title = path.parent.name if slug == "index" else slug
    date = front.get("date") or day
    fields = {"title": title.replace("-", " "), "created_at": date or EPOCH}
    fields |= {"updated_at": front.get("lastmod")} | front | {"body": body}
    signs = {(name, str(value).lower()) for name, value in front.items()}
    is_draft = not date or "_drafts" in path.parts or signs & UNPUBLISHED
    fields["published_at"] = NEVER if is_draft else date
    fields["tags"] = [*_words(front.get("tags")), *_words(front.get("categories"))]
    return fields


def _front(text: str) -> tuple[Fields, str]:
    """A file's front matter and the text below; ValueError without front matter."""
    match = FRONT.fullmatch(text) or JSON_FRONT.fullmatch(text)
    if not match:
        raise ValueError("it has no front matter")
    mark, front, body = match.groups()
    if len(front) > FRONT_MAX:
        raise ValueError(f"its front matter is longer than {FRONT_MAX:,} characters")
    if len(re.findall(r"[\[{]", front)) > BRACKETS_MAX:
        raise ValueError(f"its front matter has more than {BRACKETS_MAX} brackets")
    if not mark:
        return dict(json.loads(front)), body
    if mark == "+++":
        return tomllib.loads(front), body
    # Repeated within each other, aliases grow without end.
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(front)):
        raise ValueError("its front matter has aliases")
    # Text is all that this loader makes: "title: 1984" is one.
    fields = yaml.load(front, yaml.BaseLoader)  # it makes no objects
    if not isinstance(fields, dict):
        raise ValueError("its front matter has no names")
    return fields, body


def _words(value: Any) -> list[Any]:
    """The names in a list, or in a text between commas or, as in Jekyll, spaces."""
    if isinstance(value, str):
        return value.split("," if "," in value else None)
    return value if isinstance(value, list) else []
