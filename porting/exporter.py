"""The blog as a zip: posts in Markdown, accounts and comments as JSON lines, and pictures."""

import json
from collections.abc import Iterable
from typing import Any, BinaryIO
from zipfile import ZIP_DEFLATED, ZipFile

import sqlalchemy as sa
import yaml

from core.database import db, now
from core.pagination import NEVER
from models import Post, User
from porting.records import MODELS, Fields, Progress, columns, no_progress

CHUNK = 100  # rows that are read at once; so many pictures take 30 MB


def export(file: BinaryIO, user_id: int | None = None, progress: Progress = no_progress) -> None:
    """Write the blog, or of one user what is theirs, without the password.

    The same blog makes the same bytes. All is read in one transaction, from one state.
    """
    db.session.rollback()
    if db.engine.dialect.name == "postgresql":  # SQLite's transactions do so anyway
        db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        _write(archive, "accounts.jsonl", map(_line, _rows("accounts", user_id, progress)))
        for row in _rows("posts", user_id, progress):
            slug = Post(title=row["title"]).slug
            _write(archive, f"posts/{row['id']}-{slug}.md", [_markdown(row, slug)])
        _write(archive, "comments.jsonl", map(_line, _rows("comments", user_id, progress)))
        pictures = []
        for row in _rows("pictures", user_id, progress):
            _write(archive, f"pictures/{row['name']}", [row.pop("webp")])
            pictures.append(_line(row))
        _write(archive, "pictures.jsonl", pictures)


def _write(archive: ZipFile, name: str, lines: Iterable[bytes]) -> None:
    """Write a member, which is as old in every export."""
    with archive.open(name, "w") as member:
        member.writelines(lines)


def _rows(noun: str, user_id: int | None, progress: Progress) -> Iterable[Fields]:
    """The rows, or the user's of them, by key, each with its author's username."""
    model: Any = MODELS[noun]
    owner = User.id if model is User else model.author_id
    hidden = {"author_id", "password_hash" if user_id else ""}
    query = sa.select(*(column for column in columns(model) if column.name not in hidden))
    if model is not User:
        query = query.add_columns(User.username.label("author")).join(User, User.id == owner)
    query = query.where(owner == user_id) if user_id else query
    count = db.session.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
    query = query.order_by(sa.inspect(model).primary_key[0]).execution_options(yield_per=CHUNK)
    rows = (dict(row) for row in db.session.execute(query).mappings())
    return progress(rows, noun, count)


def _line(row: Fields) -> bytes:
    return f"{json.dumps(row, default=str, ensure_ascii=False)}\n".encode()


def _markdown(row: Fields, slug: str) -> bytes:
    """A post's file: first what people look for, then every other column that says something."""
    title, body, at = row.pop("title"), row.pop("body"), row.pop("published_at")
    state = "draft" if at == NEVER else "scheduled" if at > now() else "published"
    front = {"title": title, "slug": slug, "author": row.pop("author"), "state": state}
    front |= {} if state == "draft" else {"date": at}
    front |= {name: value for name, value in row.items() if value is not None}
    text = yaml.safe_dump(front, allow_unicode=True, sort_keys=False)
    return f"---\n{text}---\n\n{body}".encode()
