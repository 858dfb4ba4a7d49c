"""The blog as a zip: posts in Markdown, accounts and comments as JSON lines, and pictures."""

import json
from collections.abc import Iterable
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZipFile

import sqlalchemy as sa
import yaml

from core.database import blog_id, db
from models import Post, User
from porting.own_post import ESCAPED, escape
from porting.records import MODELS, Fields, Progress, exported_columns, no_progress

# Jekyll would put password hashes and pending comments on the site, which it makes of all files.
JEKYLL = b"exclude: [accounts.jsonl, blog.json, comments.jsonl, pictures.jsonl]\n"
CHUNK = 100  # rows that are read at once; 100 pictures take 30 MB of memory


def export(file: BinaryIO, user_id: int | None = None, progress: Progress = no_progress) -> None:
    """Write the blog, or only what belongs to one user, without the password.

    Two exports of the same blog have the same bytes. Everything is read in one transaction, so that
    the export is consistent.
    """
    db.session.rollback()
    if db.engine.dialect.name == "postgresql":  # SQLite needs no option for that
        db.session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    slugs: set[str] = set()
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        if not user_id:
            _write(archive, "blog.json", [_json_line({"id": blog_id()})])
            _write(archive, "_config.yml", [JEKYLL])
        _write(archive, "accounts.jsonl", map(_json_line, _rows("accounts", user_id, progress)))
        for row in _rows("posts", user_id, progress):
            post = Post(title=row["title"], published_at=row["published_at"])
            name = f"posts/{row['id']}-{post.slug}.md"
            _write(archive, name, [_markdown(row, post, _unique_slug(post.slug, row["id"], slugs))])
        _write(archive, "comments.jsonl", map(_json_line, _rows("comments", user_id, progress)))
        picture_lines = []
        for row in _rows("pictures", user_id, progress):
            _write(archive, f"pictures/{row['name']}", [row.pop("webp")])
            picture_lines.append(_json_line(row))
        _write(archive, "pictures.jsonl", picture_lines)


def _write(archive: ZipFile, name: str, lines: Iterable[bytes]) -> None:
    """Write a member of the zip. `ZipFile.open` gives each the same date, in every export."""
    with archive.open(name, "w") as member:
        member.writelines(lines)


def _rows(kind: str, user_id: int | None, progress: Progress) -> Iterable[Fields]:
    """The rows of that kind, of all users or of one, by primary key, each with its `author`."""
    model = MODELS[kind]
    columns = exported_columns(model)
    if user_id:
        columns.pop("password_hash", None)
    owner_id = columns["id"] if kind == "accounts" else columns.pop("author_id")
    query = sa.select(*columns.values())
    if kind != "accounts":  # the username says more in another blog than the id
        query = query.add_columns(User.username.label("author")).join(User, User.id == owner_id)
    if kind == "posts":
        query = query.add_columns(User.banned_at.label("author_banned_at"))
    if user_id:
        query = query.where(owner_id == user_id)
    count = db.session.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
    query = query.order_by(sa.inspect(model).primary_key[0]).execution_options(yield_per=CHUNK)
    rows = (dict(row) for row in db.session.execute(query).mappings())
    return progress(rows, kind, count)


def _json_line(row: Fields) -> bytes:
    return f"{json.dumps(row, default=str, ensure_ascii=False)}\n".encode()


def _unique_slug(slug: str, id: int, slugs: set[str]) -> str:
    """The slug, with the id if another post has it: generators of sites write one page for each."""
    while slug in slugs:
        slug = f"{slug}-{id}"
    slugs.add(slug)
    return slug


def _markdown(row: Fields, post: Post, slug: str) -> bytes:
    """A post's file: its front matter, with the fields for human readers first, and its text."""
    title, body, author = row.pop("title"), row.pop("body"), row.pop("author")
    published_at, is_banned = row.pop("published_at"), row.pop("author_banned_at")
    front_matter = {"title": title, "slug": slug, "author": author, "state": "published"}
    if post.is_draft:
        front_matter["state"] = "draft"
    else:
        front_matter["date"] = published_at
    if post.is_scheduled:
        front_matter["state"] = "scheduled"
    if post.is_draft or post.is_scheduled or is_banned:
        front_matter |= {"draft": True, "published": False}  # for Hugo and for Jekyll
    if "{{" in body or "{%" in body:
        front_matter["render_with_liquid"] = False  # for Jekyll, which would run the text
    if (escaped := escape(body)) != body:
        front_matter[ESCAPED] = True
    front_matter |= {name: value for name, value in row.items() if value is not None}
    text = yaml.safe_dump(front_matter, allow_unicode=True, sort_keys=False)
    return f"---\n{text}---\n\n{escaped}".encode()
