"""The `flask …` commands."""

import random
import secrets
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa
from flask.cli import with_appcontext

from database import Base, db, now
from models import Comment, Post, User
from security import hash_password

SAMPLE = Path(__file__).parent / "demo.toml"
CHUNK = 1000  # rows in one INSERT


@click.command()
@click.option("--posts", type=click.IntRange(0), default=0, help="Add this many made-up posts.")
@click.option("--comments", type=click.IntRange(0), default=0, help="And this many comments.")
@with_appcontext
def demo(posts: int, comments: int) -> None:
    """Fill an empty blog with sample people, posts and comments."""
    if db.session.scalar(sa.select(sa.exists(sa.select(User.id)))):
        raise click.ClickException("The blog is not empty, so nothing was added.")
    sample = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
    password = secrets.token_urlsafe(9)
    password_hash = hash_password(password)
    people = {name: User.create(name, password_hash, "post") for name in sample["people"]}
    for entry in sample["posts"]:
        answers = entry.pop("comments", [])
        post = Post(**entry | {"author": people[entry["author"]]})
        db.session.add(post)
        for minutes, answer in enumerate(answers, start=1):
            at = post.published_at + timedelta(minutes=minutes)
            author = people[answer["author"]]
            db.session.add(Comment(post=post, author=author, body=answer["body"], created_at=at))
            db.session.flush()
    add_bulk(posts, comments, [user.id for user in people.values()], sample["words"].split())
    db.session.commit()
    click.echo(f"Log in as {' or '.join(people)} with the password {password}")


def add_bulk(posts: int, comments: int, authors: list[int], words: list[str]) -> None:
    """Add posts, five minutes apart until now, and comments on any of them, alike in every run."""
    chance, end = random.Random(posts), now()

    def prose(most: int) -> str:
        """At most that many sentences."""
        lengths = chance.choices(range(4, 14), k=chance.randint(1, most))
        return " ".join(" ".join(chance.choices(words, k=n)).capitalize() + "." for n in lengths)

    def post(number: int) -> dict[str, Any]:
        """A row of posts."""
        return {
            "author_id": chance.choice(authors),
            "title": " ".join(chance.choices(words, k=5)).capitalize(),
            "body": "\n\n".join(prose(6) for _ in range(chance.randint(1, 6))),
            "tags": sorted({chance.choice(words) for _ in range(3)}),
            "published_at": end - timedelta(minutes=5 * (posts - number)),
        }

    insert(Post, posts, post)
    post_ids = db.session.scalars(sa.select(Post.id)).all()

    def comment(_number: int) -> dict[str, Any]:
        """A row of comments."""
        post_id, author_id = chance.choice(post_ids), chance.choice(authors)
        return {"post_id": post_id, "author_id": author_id, "body": prose(3)}

    insert(Comment, comments, comment)


def insert(model: type[Base], count: int, row: Callable[[int], dict[str, Any]]) -> None:
    """Insert that many rows in chunks, behind a progress bar."""
    chunks = range(0, count, CHUNK)
    with click.progressbar(chunks, label=model.__tablename__, hidden=not count) as bar:
        for start in bar:
            rows = [row(number) for number in range(start, min(start + CHUNK, count))]
            db.session.execute(sa.insert(model), rows)
