"""`flask demo`: sample users, posts and comments for an empty blog."""

import random
import re
import secrets
import tomllib
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa
from flask import Blueprint

from core.commands import progress
from core.database import atomic, db, now
from core.images import to_webp
from core.plugins import Blog, current_blog
from core.security import hash_password
from extras.pictures import Picture
from models import Comment, Post, User

SAMPLE = Path(__file__).parent / "demo.toml"
PICTURE = re.compile(r"!\[.+\]\((.+\.webp)\)\n\n")  # the group is a file beside the sample
CHUNK = 1000  # made-up rows in one transaction

commands = Blueprint("demo", __name__, cli_group=None)


def init_app(app: Blog) -> None:
    """Plug in."""
    app.register_blueprint(commands)


@commands.cli.command("demo")
@click.option("--posts", type=click.IntRange(0), default=0, help="Add this many made-up posts.")
@click.option("--comments", type=click.IntRange(0), default=0, help="And this many comments.")
def demo(posts: int, comments: int) -> None:
    """Fill an empty blog with sample people, posts and comments."""
    if User.any_exists():
        raise click.ClickException("The blog is not empty, so nothing was added.")
    sample = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
    password = secrets.token_urlsafe(9)
    password_hash = hash_password(password)
    with atomic():
        users = {name: User.create(name, password_hash, "post") for name in sample["people"]}
        for entry in sample["posts"]:
            add_sample(entry, users)
    add_bulk(posts, comments, [user.id for user in users.values()], sample["words"].split())
    click.echo(f"Log in as {' or '.join(users)} with the password {password}")
    click.echo(f"The blog is {next(iter(users))}'s: the first account is its owner.")


def add_sample(entry: dict[str, Any], users: dict[str, User]) -> None:
    """Add a post of the sample with its pictures and comments."""
    answers, author = entry.pop("comments", []), users[entry["author"]]
    post = Post(**entry | {"author": author, "body": add_pictures(entry["body"], author)})
    Post.save(post)
    for minutes, answer in enumerate(answers, start=1):
        at = post.published_at + timedelta(minutes=minutes)
        author = users[answer["author"]]
        db.session.add(Comment(post=post, author=author, body=answer["body"], created_at=at))


def add_pictures(text: str, author: User) -> str:
    """Add the text's pictures; the text with their paths, or without them if that extra is off."""
    blog = current_blog()
    if "pictures" not in blog.extras:
        return PICTURE.sub("", text)
    for name in PICTURE.findall(text):
        with (SAMPLE.parent / name).open("rb") as file:
            picture = Picture.of(author.id, *to_webp(file))
        db.session.add(picture)
        text = text.replace(f"({name})", f"(/pictures/{picture.name})")
    return text


def add_bulk(posts: int, comments: int, authors: list[int], words: list[str]) -> None:
    """Add posts, five minutes apart until now, and comments on any of them, alike in every run."""
    chance, end = random.Random(posts), now()

    def prose(most: int) -> str:
        """At most that many sentences."""
        lengths = chance.choices(range(4, 14), k=chance.randint(1, most))
        return " ".join(" ".join(chance.choices(words, k=n)).capitalize() + "." for n in lengths)

    def post(number: int) -> Post:
        return Post(
            author_id=chance.choice(authors),
            title=prose(1).rstrip("."),
            body="\n\n".join(prose(6) for _ in range(chance.randint(1, 6))),
            tags=sorted(chance.sample(words, 3)),
            published_at=end - timedelta(minutes=5 * (posts - number)),
        )

    for numbers in chunks(posts, "posts"):
        with atomic():
            Post.save(*[post(number) for number in numbers])
        db.session.expunge_all()  # or they fill the memory
    ids = db.session.scalars(sa.select(Post.id)).all()
    for numbers in chunks(comments, "comments"):
        rows = [
            {"post_id": chance.choice(ids), "author_id": chance.choice(authors), "body": prose(3)}
            for _ in numbers
        ]
        with atomic():
            db.session.execute(sa.insert(Comment), rows)


def chunks(count: int, label: str) -> Iterable[range]:
    """The numbers below `count`, some at a time, with a progress bar."""
    starts = range(0, count, CHUNK)
    for start in progress(starts, label, len(starts)):
        yield range(start, min(start + CHUNK, count))
