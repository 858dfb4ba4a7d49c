"""Reads a folder of Markdown files with front matter, as Hugo and Jekyll have them.

Front matter is parsed here and not with python-frontmatter, which raises on colons, reads 1984 as a
number and "no" as false, and expands aliases without limit.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import yaml

from core.pagination import EPOCH, NEVER
from core.rendering import normalize_text
from porting.records import TEXT_MAX, ExternalUser, Fields, Progress, Record, Report

FRONT_MATTER_MAX = 10_000  # characters; our exports need 800
BRACKETS_MAX = 200  # in front matter; a parser needs seconds for thousands that are nested
# Delimiter, front matter and body: YAML between `---`, TOML between `+++`.
FRONT_MATTER = re.compile(r"\ufeff?(---|\+\+\+)[ \t]*\n((?:.*\n)*?)\1[ \t]*(?:\n\n?|\Z)([\s\S]*)")
# The same three groups; JSON is its own delimiter, so the first is empty.
JSON_FRONT_MATTER = re.compile(r"\ufeff?()(\{\n(?:.*\n)*?\})[ \t]*(?:\n\n?|\Z)([\s\S]*)")
# Date and slug, as Jekyll names files. Hugo's _index.md describes a list and is no post.
FILE_NAME = re.compile(r"(?!_index\.)(\d{4}-\d\d-\d\d)?-?(.*)\.(?:md|markdown)")
# Front matter that marks a draft: in our exports, in Hugo, in Jekyll.
DRAFT_MARKERS = {("state", "draft"), ("draft", "true"), ("published", "false")}


def records(folder: Path, author: str, report: Report, progress: Progress) -> Iterator[Record]:
    """The posts in the folder and its subfolders; `author` is for those that name no author."""
    paths = sorted(folder.rglob("*.m*"))
    files = [path for path in paths if path.is_file() and FILE_NAME.fullmatch(path.name)]
    for path in progress(files, "files", len(files)):
        location = str(path.relative_to(folder))
        with report.skipping(location):
            with path.open("rb") as file:
                fields = parse_post(PurePath(location), file.read(TEXT_MAX))
            names = fields.get("author") or fields.get("authors") or author
            name = names[0] if isinstance(names, list) else names
            # An id of another blog means nothing in this one.
            yield Record(location, "posts", fields | {"id": None}, ExternalUser(str(name)))


def parse_post(path: PurePath, content: bytes) -> Fields:
    """The fields of a post of our export, Hugo or Jekyll; ValueError without front matter."""
    front_matter, body = _split(normalize_text(content.decode()))
    day, slug = FILE_NAME.findall(path.name)[0]
    if slug == "index":
        slug = path.parent.name  # in Hugo, a post may be a folder
    date = front_matter.get("date") or day
    pairs = {(name, str(value).lower()) for name, value in front_matter.items()}
    is_draft = not date or "_drafts" in path.parts or pairs & DRAFT_MARKERS
    fields = {
        "title": slug.replace("-", " "),
        "created_at": date or EPOCH,
        "updated_at": front_matter.get("lastmod"),
    }
    fields |= front_matter
    fields["body"] = body
    fields["published_at"] = NEVER if is_draft else date
    fields["tags"] = [*_names(front_matter.get("tags")), *_names(front_matter.get("categories"))]
    return fields


def _split(text: str) -> tuple[Fields, str]:
    """The front matter and the body of a file; ValueError if it has no front matter."""
    match = FRONT_MATTER.fullmatch(text) or JSON_FRONT_MATTER.fullmatch(text)
    if not match:
        raise ValueError("it has no front matter")
    delimiter, front_matter, body = match.groups()
    if len(front_matter) > FRONT_MATTER_MAX:
        raise ValueError(f"its front matter is longer than {FRONT_MATTER_MAX:,} characters")
    if len(re.findall(r"[\[{]", front_matter)) > BRACKETS_MAX:
        raise ValueError(f"its front matter has more than {BRACKETS_MAX} brackets")
    if not delimiter:
        return json.loads(front_matter), body
    if delimiter == "+++":
        return tomllib.loads(front_matter), body
    # Aliases of aliases grow exponentially.
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(front_matter)):
        raise ValueError("its front matter has aliases")
    # BaseLoader is safe, for it makes no objects, and leaves scalars as text: "1984", "no".
    fields = yaml.load(front_matter, yaml.BaseLoader)
    if not isinstance(fields, dict):
        raise ValueError("its front matter has no names")
    return fields, body


def _names(value: object) -> Sequence[object]:
    """The names in a list, or in a text with commas or, as in Jekyll, spaces between them."""
    if isinstance(value, str):
        return value.split("," if "," in value else None)
    return value if isinstance(value, list) else []
