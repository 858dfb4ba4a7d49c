"""The `flask …` commands."""

import random
import secrets
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa
from flask import current_app
from flask.cli import with_appcontext

from database import db, now
from models import Comment, Post, User
from security import hash_password

SAMPLE = Path(__file__).parent / "demo.toml"
CHUNK = 1000  # rows in one INSERT
MINUTES_BETWEEN = 5  # two bulk posts


@click.command()
@click.option(
    "--posts", type=click.IntRange(0), default=0, help="Add this many made-up posts, for measuring."
)
@click.option(
    "--comments", type=click.IntRange(0), default=0, help="Add this many made-up comments to them."
)
@with_appcontext
def demo(posts: int, comments: int) -> None:
    """Fill an empty blog with sample people, posts and comments."""
    if db.session.scalar(sa.select(sa.exists(sa.select(User.id)))):
        raise click.ClickException("The blog is not empty, so nothing was added.")
    if comments and not posts:
        raise click.UsageError("The made-up comments need made-up posts: add --posts.")
    sample = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
    password = secrets.token_urlsafe(9)
    password_hash = hash_password(password)
    people = {name: User.create(name, password_hash, "post") for name in sample["people"]}
    for entry in sample["posts"]:
        post = Post(
            author=people[entry["author"]],
            title=entry["title"],
            body=entry["body"],
            published_at=entry["published_at"],
        )
        db.session.add(post)
        for minutes, answer in enumerate(entry.get("comments", []), start=1):
            author, body = people[answer["author"]], answer["body"]
            at = entry["published_at"] + timedelta(minutes=minutes)
            db.session.add(Comment(post=post, author=author, body=body, created_at=at))
            db.session.flush()
    authors = [user.id for user in people.values()]
    words = sample["words"].split()
    insert(Post, posts, made_up_posts(posts, authors, words))
    newest = sa.select(Post.id).order_by(Post.id.desc()).limit(posts)
    post_ids = list(db.session.scalars(newest))
    insert(Comment, comments, made_up_comments(comments, post_ids, authors, words))
    db.session.commit()
    click.echo(f"Log in as {' or '.join(people)} with the password {password}")
    click.echo(f"{next(iter(people))} is the owner of {current_app.config['NAME']}.")


def insert(model: type[Post | Comment], count: int, rows: Iterator[dict[str, Any]]) -> None:
    """Insert the rows in chunks, behind a progress bar."""
    with click.progressbar(length=count, label=model.__tablename__, hidden=not count) as bar:
        while chunk := [row for row, _ in zip(rows, range(CHUNK), strict=False)]:
            db.session.execute(sa.insert(model), chunk)
            bar.update(len(chunk))


def made_up_posts(count: int, authors: list[int], words: list[str]) -> Iterator[dict[str, Any]]:
    """Rows of posts, the last one published now, the same words in every run."""
    chance = random.Random(count)  # noqa: S311  # nothing secret
    end = now()
    for number in range(count):
        yield {
            "author_id": chance.choice(authors),
            "title": " ".join(chance.choices(words, k=5)).capitalize(),
            "body": "\n\n".join(sentences(chance, words) for _ in range(chance.randint(1, 6))),
            "published_at": end - timedelta(minutes=MINUTES_BETWEEN * (count - number)),
        }


def made_up_comments(
    count: int, posts: list[int], authors: list[int], words: list[str]
) -> Iterator[dict[str, Any]]:
    """Rows of comments on the posts, some of which get many and some none."""
    chance = random.Random(count)  # noqa: S311  # nothing secret
    for _ in range(count):
        yield {
            "post_id": chance.choice(posts),
            "author_id": chance.choice(authors),
            "body": sentences(chance, words),
            "created_at": now(),
        }


def sentences(chance: random.Random, words: list[str]) -> str:
    """A paragraph of one to six sentences."""
    lengths = chance.choices(range(4, 14), k=chance.randint(1, 6))
    return " ".join(" ".join(chance.choices(words, k=n)).capitalize() + "." for n in lengths)
