"""The blog to a file and from one: our own zip, a WordPress export, a folder of Markdown.

What comes in passes the limits of the forms. Nothing here commits.
"""

import hashlib
import html
import json
import re
import stat
import struct
import tomllib
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar
from xml.etree import ElementTree

import sqlalchemy as sa
import yaml
from markdownify import markdownify
from PIL import Image

import forms
import models
from database import Base, db, now, wait_in_line
from models import Comment, Picture, Post, User
from pictures import BYTES_MAX

CHUNK = 1000  # rows that are read or written at once
TEXT_MAX = 1024 * 1024  # bytes of a post's file or of a line; ours have at most 0.3 million
ZIP_MAX = 2 * 1024**3  # bytes of all that a zip holds; as many as 20,000 pictures
FRONT_MAX = 10_000  # characters of front matter; ours has 800
BRACKETS_MAX = 200  # in it; thousands within each other take seconds
HTML_MAX = 4 * forms.POST_MAX  # characters of which Markdown is made
NO_PASSWORD = "!"  # no password has this hash; a reset link works
ZIPPED = {User: "accounts", Post: "posts", Comment: "comments", Picture: "pictures"}
# Texts that the database does not bound.
LENGTHS = {"about": forms.ABOUT_MAX, Post: forms.POST_MAX, Comment: forms.COMMENT_MAX}
USERNAME = re.compile(f"[A-Za-z0-9_-]{{{forms.USERNAME_MIN},{models.USERNAME_MAX}}}")
PICTURE = re.compile(r"[0-9a-f]{32}-([0-9]{1,4})x([0-9]{1,4})\.webp")
FRONT = re.compile(r"\ufeff?(---|\+\+\+)[ \t]*\n((?:.*\n)*?)\1[ \t]*(?:\n\n?|\Z)([\s\S]*)")
FILE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})?-?(.*)\.(?:md|markdown)")  # as Jekyll names it
BLOCK = re.compile(r"(item)|\{http://wordpress\.org/export/[^}]*\}(author|comment)")
BEFORE_BLOCK = r"\s{0,9}</?(?:blockquote|div|h\d|li|ol|p|pre|t[dhr]|table|tbody|thead|ul)\b"
# What has its own line ends in HTML, and the ends that WordPress makes visible itself.
LINE_ENDS = re.compile(rf"(?is)<pre\b.*?</pre>|<[^>]*>|\n(?!{BEFORE_BLOCK})")
STATES = {"publish", "future", "draft", "pending", "private"}  # of WordPress's posts, that we take
# What a damaged zip makes its reader raise, and what a bad record makes its readers raise.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError)
BAD = (ValueError, OverflowError, RecursionError, yaml.YAMLError)
Thing = TypeVar("Thing")
Record = dict[str, Any]


class Track(Protocol):
    """What goes through things and shows how far it is, such as a progress bar."""

    def __call__(self, things: Iterable[Thing], label: str, length: int, /) -> Iterable[Thing]:
        """The same things."""


def untracked(things: Iterable[Thing], _label: str, _length: int) -> Iterable[Thing]:
    """The same things, without showing it."""
    return things


class Summary(NamedTuple):
    """What an import did: numbers by noun, and sentences that begin with a place in the file."""

    added: Counter[str]
    known: Counter[str]  # was here already
    left_out: Counter[str]  # has no place in this blog
    skipped: list[str]  # bad records
    not_fetched: list[str]  # attachments

    def sentences(self) -> list[str]:
        """All of it for people, the numbers last."""
        numbers = {"Added": self.added, "Here already": self.known, "Left out": self.left_out}
        numbers["Not fetched"] = Counter(attachments=len(self.not_fetched))
        numbers["Skipped"] = Counter({"bad records": len(self.skipped)})
        texts = [
            f"{claim}: {', '.join(f'{count:,} {noun}' for noun, count in (+counts).items())}."
            for claim, counts in numbers.items()
            if +counts
        ]
        return [*self.not_fetched, *self.skipped, *(texts or ["There is nothing in it."])]


def export(file: BinaryIO, user: User | None = None, track: Track = untracked) -> None:
    """Write the blog as a zip, or of one user what is theirs, without the password.

    The same blog makes the same bytes. Comments are read before posts, and these before accounts,
    so that nothing refers to what was added meanwhile.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for model in (Comment, Picture):
            names = []
            with archive.open(_member(f"{ZIPPED[model]}.jsonl"), "w") as lines:
                for row in _rows(model, user, track):
                    lines.write(_line(row))
                    names.append(row.get("name"))
        for name in track(names, "pictures' files", len(names)):
            webp = db.session.scalar(sa.select(Picture.webp).where(Picture.name == name))
            archive.writestr(_member(f"pictures/{name}"), webp or b"")
        for row in _rows(Post, user, track):
            slug = Post(title=row["title"]).slug
            archive.writestr(_member(f"posts/{row['id']}-{slug}.md"), _markdown(row, slug))
        accounts = b"".join(map(_line, _rows(User, user, track)))
        archive.writestr(_member("accounts.jsonl"), accounts)


def load(path: Path, zone: tzinfo, author: str = "", track: Track = untracked) -> Summary:
    """Add what the blog lacks of a zip of ours, a WordPress export or a folder of Markdown.

    Times without a zone are in `zone`. Who wrote a post that names no author is `author`, else the
    owner. In an empty blog ids stay as they were, and the first account is the owner's. ValueError,
    with a sentence, when the file or the database refuses the whole: then roll back.
    """
    work = _Import(zone, author, track)
    try:
        if path.is_dir():
            work.take_folder(path)
        else:
            with path.open("rb") as file:
                is_zip = file.read(2) == b"PK"
            (work.take_zip if is_zip else work.take_wordpress)(path)
        work.finish()
    except ElementTree.ParseError as error:
        raise ValueError(f"This is no zip, and no whole XML: {error}.") from error
    except DAMAGED as error:
        raise ValueError(f"This file is damaged: {error}.") from error
    except (sa.exc.IntegrityError, sa.exc.DataError) as error:
        raise ValueError(f"The database refuses it: {str(error.orig).splitlines()[0]}.") from error
    return work.summary


class _Account(NamedTuple):
    id: int
    name: str  # as it is shown
    is_imported: bool  # and nobody has logged in yet


class _Import:
    """One import: what it knows of the blog, and how each kind of thing comes in."""

    def __init__(self, zone: tzinfo, author: str, track: Track) -> None:
        wait_in_line(db.session.connection())
        self.zone, self.track, self.place = zone, track, ""
        self.summary = Summary(Counter(), Counter(), Counter(), [], [])
        self.accounts: dict[str, _Account] = {}
        account = (User.username, User.id, User.display_name, User.password_hash)
        for name, id, shown, password in db.session.execute(sa.select(*account)):
            self.accounts[name.lower()] = _Account(id, shown or name, password == NO_PASSWORD)
        self.is_empty = not self.accounts
        owner = sa.select(User.username).where(User.role == "owner").order_by(User.id).limit(1)
        self.author = author or db.session.scalar(owner) or ""
        post = sa.select(Post.author_id, Post.created_at, Post.title, Post.id)
        self.posts: dict[Any, int] = {tuple(key): id for *key, id in db.session.execute(post)}
        self.ids: dict[str, int] = {}  # of posts, by their ids in the file
        comment = sa.select(Comment.post_id, Comment.author_id, Comment.created_at, Comment.body)
        found = db.session.execute(comment.execution_options(yield_per=CHUNK))
        self.comments = {hash(tuple(row)) for row in found}
        self.rows: list[Record] = []  # of comments, until there are many
        self.people: dict[tuple[str, str], int] = {}  # accounts by WordPress's names and numbers

    @contextmanager
    def record(self, place: str) -> Iterator[None]:
        """Report what is bad in the record at that place, and go on with the next."""
        self.place = place
        try:
            yield
        except BAD as error:
            is_deep = isinstance(error, RecursionError)
            reason = "it is nested too deeply" if is_deep else " ".join(str(error).split())
            self.summary.skipped.append(f"{place}: {reason}.")

    # One thing

    def values(self, model: type[Base], record: Record) -> Record:
        """The record's values for the model's columns; ValueError for what no form would take."""
        values = {}
        for column in _columns(model):
            name, value = column.name, record.get(column.name)
            length = getattr(column.type, "length", None)
            try:
                value = None if value is None else self.read(name, column.type.python_type, value)
            except (ValueError, OverflowError) as error:
                raise ValueError(f"its {name} cannot be read: {str(value)[:40]}") from error
            if length:
                value = value and " ".join(value.split())
            most = length or LENGTHS.get(name, LENGTHS.get(model, TEXT_MAX))
            if isinstance(value, str) and len(value) > most:
                raise ValueError(f"its {name} has {len(value):,} characters; it can have {most:,}")
            is_needed = column.default is None or name.endswith("_at")
            if value in (None, "") and is_needed and not (column.nullable or column.primary_key):
                raise ValueError(f"it has no {name}")
            if value is not None or column.nullable:
                values[name] = value
        if not self.is_empty:
            values.pop("id", None)
        return values

    def read(self, name: str, kind: type[Any], value: Any) -> Any:
        """A value from JSON, YAML, TOML or XML for a column of that name and kind."""
        if name == "tags":
            return self.tags(value)
        if isinstance(value, list | dict):
            raise ValueError(value)
        if name == "state" and value not in ("shown", "waiting", "banned"):
            raise ValueError(value)
        if name.endswith("_at"):
            return self.time(str(value))
        if kind is int:
            return range(1, models.ID_MAX + 1).index(int(value)) + 1
        return str(value).lower() == "true" if kind is bool else forms.tidy(str(value))

    def time(self, text: str) -> datetime:
        """An aware time of a text in ISO 8601, or with a space before the zone as in Jekyll."""
        at = datetime.fromisoformat(re.sub(r" +(?=([+-]\d\d:?\d\d|Z)$)", "", text.strip()))
        at = at if at.tzinfo else at.replace(tzinfo=self.zone)
        if not models.EPOCH <= at <= models.NEVER:
            raise ValueError(text)
        return at

    def tags(self, names: list[Any]) -> list[str]:
        """The tags as a post has them; counts those that are none, and those that are too many."""
        tags = {}
        for name in names:
            text = unicodedata.normalize("NFC", str(name).lower()[: forms.NORMALIZED_MAX])
            tag = " ".join(forms.tidy(re.sub(r"[/\\,]", " ", text)).split()).lstrip("# ")
            tags[tag] = forms.is_word(tag) and len(tag) <= models.TAG_MAX
        fit = [tag for tag, is_fit in tags.items() if is_fit][: forms.TAGS_MAX]
        self.summary.left_out["tags"] += len(tags) - len(fit)
        return fit

    def insert(self, model: type[Base], values: Record) -> Any:
        """Add a row; its key."""
        self.summary.added[ZIPPED[model]] += 1
        table = Base.metadata.tables[model.__tablename__]
        insert = sa.insert(table).returning(*table.primary_key)
        return db.session.scalar(insert, values)

    def account(self, record: Record) -> None:
        """Take an account of ours, with its password, unless its name is taken."""
        values = self.values(User, {"password_hash": NO_PASSWORD, "role": "member"} | record)
        name = values["username"]
        if not USERNAME.fullmatch(name):
            raise ValueError(f"“{name}” is no username")
        if name.lower() in self.accounts:
            self.summary.known["accounts"] += 1
            return
        if not self.is_empty and values["role"] == "owner":
            values["role"] = "author"
        shown = values.get("display_name") or name
        self.accounts[name.lower()] = _Account(self.insert(User, values), shown, False)

    def person(self, name: str, shown: str, is_author: bool) -> int:
        """The account's id of somebody from elsewhere, new or from an import before.

        An author is whoever has that username here. Anybody may have called themselves anything in
        a comment, so their accounts are never those of people who log in.
        """
        shown = " ".join(forms.tidy(forms.UNFIT_FOR_NAMES.sub("", shown)).split())[:50]
        if not shown or not name:
            raise ValueError("it names no author")
        plain = unicodedata.normalize("NFKD", name[: forms.NORMALIZED_MAX])
        plain = re.sub("[^A-Za-z0-9_-]+", "-", re.sub("[\u0300-\u036f]", "", plain))
        plain = plain.strip("-")[: models.USERNAME_MAX]
        plain = plain if USERNAME.fullmatch(plain) else "user"
        marked = f"{plain[:21]}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
        for username in (plain, marked):
            known = self.accounts.get(username.lower())
            if known and (
                (is_author and (username == name or known.name == shown))
                or (known.is_imported and (known.name == shown or username == marked))
            ):
                return known.id
            if not known and (is_author or username.lower() not in forms.RESERVED):
                break
        else:
            raise ValueError(f"no username is free for “{shown}”")
        if not is_author and (shown.lower() in forms.RESERVED or shown.lower() in self.accounts):
            shown = username
        role = "author" if is_author else "member"
        row = {
            "username": username,
            "password_hash": NO_PASSWORD,
            "role": role if self.accounts else "owner",
            "display_name": shown if shown != username else "",
        }
        self.accounts[username.lower()] = _Account(self.insert(User, row), shown, True)
        return self.accounts[username.lower()].id

    def author_of(self, record: Record) -> int:
        """The account's id of the author that a record of ours names."""
        name = str(record.get("author"))
        if name.lower() not in self.accounts:
            raise ValueError(f"its author “{name}” has no account")
        return self.accounts[name.lower()].id

    def post(self, record: Record) -> int:
        """Take a post, unless its author wrote one of that title at that time; its id here."""
        values = self.values(Post, record)
        key = (values["author_id"], values["created_at"], values["title"])
        if key in self.posts:
            self.summary.known["posts"] += 1
        else:
            self.posts[key] = self.insert(Post, values)
        return self.posts[key]

    def comment(self, record: Record) -> None:
        """Take a comment, unless its author wrote just that at that time."""
        values = self.values(Comment, record)
        key = hash(tuple(values[name] for name in ("post_id", "author_id", "created_at", "body")))
        if key in self.comments:
            self.summary.known["comments"] += 1
            return
        self.comments.add(key)
        self.rows.append(values)
        if len(self.rows) == CHUNK:
            self.finish()

    def finish(self) -> None:
        """Write the comments that wait, and let PostgreSQL count on from the ids that stayed."""
        if self.rows:
            nulls = {"render_nulls": True}  # or each comment without one were a statement
            db.session.execute(sa.insert(Comment), self.rows, execution_options=nulls)
            self.summary.added["comments"] += len(self.rows)
            self.rows.clear()
        for model in (User, Post, Comment):
            if self.is_empty and db.engine.dialect.name == "postgresql":
                sequence = sa.func.pg_get_serial_sequence(model.__tablename__, "id")
                db.session.execute(sa.select(sa.func.setval(sequence, sa.func.max(model.id))))

    # Our zip, and Markdown

    def take_zip(self, path: Path) -> None:
        """Take all of a zip that `export` wrote."""
        with zipfile.ZipFile(path) as archive:
            _check(archive)
            self.take_lines(archive, User, self.account)
            posts = [name for name in archive.namelist() if re.match(r"posts/\d+-[^/]*\.md$", name)]
            posts.sort(key=lambda name: (name.index("-"), name))  # by their ids
            for name in self.track(posts, "posts", len(posts)):
                with self.record(name):
                    self.take_markdown(name, _read(archive, name, TEXT_MAX), is_ours=True)
            self.take_lines(archive, Comment, self.our_comment)
            self.take_lines(archive, Picture, partial(self.picture, archive))

    def take_lines(
        self, archive: zipfile.ZipFile, model: type[Base], take: Callable[[Record], None]
    ) -> None:
        """Take each record of a file of JSON lines."""
        name = f"{ZIPPED[model]}.jsonl"
        with archive.open(name) as file:
            lines = partial(iter, partial(file.readline, TEXT_MAX), b"")
            count = sum(1 for _ in lines())
            file.seek(0)
            for number, line in enumerate(self.track(lines(), ZIPPED[model], count), start=1):
                with self.record(f"{name}, line {number}"):
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise ValueError("it is no JSON object")
                    take(record)

    def our_comment(self, record: Record) -> None:
        """Take a comment on a post of the same zip."""
        post_id = self.ids.get(str(record.get("post_id")))
        if not post_id:
            raise ValueError("its post is not in this file")
        self.comment(record | {"post_id": post_id, "author_id": self.author_of(record)})

    def picture(self, archive: zipfile.ZipFile, record: Record) -> None:
        """Take a picture, unless one of its name is here."""
        name = str(record.get("name"))
        match = PICTURE.fullmatch(name)
        if not match:
            raise ValueError(f"“{name[:60]}” is no picture's name")
        webp = _read(archive, f"pictures/{name}", BYTES_MAX)
        try:
            size = Image.open(BytesIO(webp), formats=["WEBP"]).size
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"{name} is no WebP") from error
        if size != (int(match[1]), int(match[2])):
            raise ValueError(f"{name} has {size[0]} by {size[1]} pixels")
        if db.session.scalar(sa.select(Picture.name).where(Picture.name == name)):
            self.summary.known["pictures"] += 1
            return
        values = self.values(Picture, record | {"author_id": self.author_of(record)})
        self.insert(Picture, values | {"webp": webp})

    def take_folder(self, path: Path) -> None:
        """Take every Markdown file below a folder, but for Hugo's pages of lists."""
        files = [file for file in sorted(path.rglob("*")) if FILE.fullmatch(file.name)]
        files = [file for file in files if file.name != "_index.md" and file.is_file()]
        for file in self.track(files, "files", len(files)):
            name = str(file.relative_to(path))
            with self.record(name), file.open("rb") as text:
                self.take_markdown(name, text.read(TEXT_MAX), is_ours=False)

    def take_markdown(self, name: str, text: bytes, is_ours: bool) -> None:
        """Take a post with front matter: ours, or as Hugo and Jekyll write it."""
        front, body = _front(forms.tidy(text.decode()))
        path = PurePosixPath(name)
        day, slug = FILE.fullmatch(path.name).groups()  # type: ignore[union-attr]  # by its name
        date = front.get("date") or day
        is_draft = not date or "_drafts" in path.parts or front.get("state") == "draft"
        is_draft |= _flag(front, "draft", "true") or _flag(front, "published", "false")
        names = [*_words(front.get("tags")), *_words(front.get("categories"))]
        title = front.get("title") or (path.parent.name if slug == "index" else slug)
        post = {
            "title": title if front.get("title") else title.replace("-", " "),
            "body": body,
            "tags": names,
            "created_at": date or models.EPOCH,
            "updated_at": front.get("lastmod"),
            "published_at": models.NEVER if is_draft else date,
        }
        if is_ours:
            post |= front | {"tags": names, "published_at": post["published_at"], "body": body}
            post["author_id"] = self.author_of(front)
        else:
            authors = front.get("author") or front.get("authors") or self.author
            author = str(authors[0] if isinstance(authors, list) else authors)
            post["author_id"] = self.person(author, author, True)
        id = self.post(post)
        if is_ours:
            self.ids[str(front.get("id"))] = id

    # WordPress

    def take_wordpress(self, path: Path) -> None:
        """Take the authors, posts and comments of a WordPress export, as it is read."""
        numbers: Counter[str] = Counter()
        post_id, place = 0, ""
        for kind, fields in self.blocks(path):
            numbers[kind] += 1
            if kind == "channel" and "wxr_version" not in fields:
                raise ValueError("This is neither a zip nor a WordPress export.")
            if kind == "author":
                with self.record(f"author {numbers[kind]}"):
                    login = fields.get("author_login", "")
                    id = self.person(login, fields.get("author_display_name") or login, True)
                    self.people["login", login] = id
                    self.people["number", fields.get("author_id", "")] = id
            if kind == "item":
                post_id, place = 0, f"item {numbers[kind]} (“{fields.get('title', '')[:40]}”)"
                numbers["comment"] = 0
                with self.record(place):
                    post_id = self.wordpress_post(fields)
            if kind == "comment":
                with self.record(f"{place}, comment {numbers[kind]}"):
                    self.wordpress_comment(fields, post_id)

    def blocks(self, path: Path) -> Iterator[tuple[str, Record]]:
        """The parts of an export, each once the next has begun."""
        blocks = _Blocks()
        parser = ElementTree.XMLParser(target=blocks)  # it refuses a DOCTYPE
        steps = range(0, path.stat().st_size, TEXT_MAX)
        with path.open("rb") as file:
            for _ in self.track(steps, "MiB", len(steps)):
                parser.feed(file.read(TEXT_MAX))
                yield from blocks.found[:-1]
                del blocks.found[:-1]
        parser.close()
        yield from blocks.found

    def wordpress_post(self, fields: Record) -> int:
        """Take an item, if it is a post; what its readers could not read becomes a draft."""
        kind, state = fields.get("post_type", "post"), fields.get("status", "")
        if kind == "attachment":
            address = fields.get("attachment_url", "")
            self.summary.not_fetched.append(f"{self.place}: {address} was not fetched.")
        elif kind != "post" or state not in STATES:
            self.summary.left_out[f"of type {kind}" if kind != "post" else f"in state {state}"] += 1
        else:
            is_public = state in ("publish", "future") and not fields.get("post_password")
            date = _date(fields, "post_date")
            if date.startswith("0000") and not is_public:
                date = str(models.EPOCH)
            login = fields.get("creator") or self.author
            id = self.people.get(("login", login)) or self.person(login, login, True)
            post = {
                "author_id": id,
                "title": html.unescape(fields.get("title") or fields.get("post_name", "")),
                "body": _from_html(fields.get("encoded", "")),
                "tags": fields.get("tags", []),
                "created_at": date,
                "published_at": date if is_public else models.NEVER,
                "comments_closed": fields.get("comment_status") == "closed",
            }
            return self.post(post)
        return 0

    def wordpress_comment(self, fields: Record, post_id: int) -> None:
        """Take a comment on a post that was taken; what WordPress shows nobody waits here."""
        kind, approved = fields.get("comment_type") or "comment", fields.get("comment_approved")
        state = {"1": "shown", "0": "waiting"}.get(approved or "")
        if not post_id or kind != "comment" or not state:
            why = "without a post" if not post_id else kind if kind != "comment" else approved
            self.summary.left_out[f"comments ({why})"] += 1
            return
        name = html.unescape(fields.get("comment_author", ""))
        author_id = self.people.get(("number", fields.get("comment_user_id", "")))
        row = {
            "post_id": post_id,
            "author_id": author_id or self.person(name, name, False),
            "body": _from_html(fields.get("comment_content", "")),
            "created_at": _date(fields, "comment_date"),
            "state": state,
        }
        self.comment(row)


class _Blocks:
    """What expat meets in a WordPress export: blocks of a kind, each with its fields."""

    def __init__(self) -> None:
        self.found: list[tuple[str, Record]] = [("channel", {})]
        self.text: list[str] = []
        self.domain = ""

    def doctype(self, *_names: str | None) -> None:
        """Refuse what defines entities, which grow without end."""
        raise ValueError("It has a DOCTYPE, which no WordPress export has.")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Begin a field, and maybe a block."""
        if match := BLOCK.fullmatch(tag):
            self.found.append((match[1] or match[2], {}))
        self.text, self.domain = [], attributes.get("domain", "")

    def data(self, text: str) -> None:
        """Go on with a field."""
        self.text.append(text)

    def end(self, tag: str) -> None:
        """Keep a field of the newest block."""
        fields, text = self.found[-1][1], "".join(self.text)
        if self.domain in ("category", "post_tag"):
            fields.setdefault("tags", []).append(html.unescape(text))
        elif "/excerpt/" not in tag:  # of the same name as the text
            fields[tag.rpartition("}")[2]] = text
        self.text, self.domain = [], ""


def _columns(model: type[Base]) -> list[sa.Column[Any]]:
    columns = Base.metadata.tables[model.__tablename__].columns
    return [column for column in columns if not column.computed and column.name != "webp"]


def _rows(model: type[Any], user: User | None, track: Track) -> Iterable[Record]:
    """The model's rows, or the user's of them, by key, each with its author's username."""
    owner = User.id if model is User else model.author_id
    hidden = {"author_id", "password_hash" if user else ""}
    query = sa.select(*(column for column in _columns(model) if column.name not in hidden))
    if model is not User:
        query = query.add_columns(User.username.label("author")).join(User, User.id == owner)
    if user:
        query = query.where(owner == user.id)
    count = db.session.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
    query = query.order_by(sa.inspect(model).primary_key[0]).execution_options(yield_per=CHUNK)
    rows = (dict(row) for row in db.session.execute(query).mappings())
    return track(rows, ZIPPED[model], count)


def _member(name: str) -> zipfile.ZipInfo:
    """A zip's member that is as old in every export."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_STORED if name.endswith(".webp") else zipfile.ZIP_DEFLATED
    return member


def _line(row: Record) -> bytes:
    return f"{json.dumps(row, default=str, ensure_ascii=False)}\n".encode()


def _markdown(row: Record, slug: str) -> str:
    """A post's file: first what people look for, then every other column that says something."""
    title, body, at = row.pop("title"), row.pop("body"), row.pop("published_at")
    state = "draft" if at == models.NEVER else "scheduled" if at > now() else "published"
    front = {"title": title, "slug": slug, "author": row.pop("author"), "state": state}
    front |= {} if state == "draft" else {"date": at}
    front |= {name: value for name, value in row.items() if value is not None}
    return f"---\n{yaml.safe_dump(front, allow_unicode=True, sort_keys=False)}---\n\n{body}"


def _front(text: str) -> tuple[Record, str]:
    """A file's front matter and the text below; ValueError without front matter."""
    match = FRONT.fullmatch(text)
    if not match:
        raise ValueError("it has no front matter")
    mark, front, body = match.groups()
    if len(front) > FRONT_MAX:
        raise ValueError(f"its front matter is longer than {FRONT_MAX:,} characters")
    if len(re.findall(r"[\[{]", front)) > BRACKETS_MAX:
        raise ValueError(f"its front matter has more than {BRACKETS_MAX} brackets")
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


def _flag(front: Record, name: str, value: str) -> bool:
    return str(front.get(name)).lower() == value


def _date(fields: Record, name: str) -> str:
    """WordPress's time, in UTC where it knows that."""
    at: str = fields.get(f"{name}_gmt") or "0000"
    return fields.get(name, "") if at.startswith("0000") else f"{at}Z"


def _from_html(text: str) -> str:
    """The Markdown of HTML in which WordPress makes line ends visible itself."""
    if len(text) > HTML_MAX:
        raise ValueError(f"its text has more than {HTML_MAX:,} characters")
    if not re.search(r"<p\b|<!-- wp:", text):
        text = text.replace("\r\n", "\n").strip()
        text = LINE_ENDS.sub(lambda match: "<br>\n" if match[0] == "\n" else match[0], text)
    text = markdownify(f"<div>{text}</div>", heading_style="ATX", bullets="-")
    return re.sub(r"( +\n){2,}", "\n\n", text).strip()


def _check(archive: zipfile.ZipFile) -> None:
    """ValueError for a zip that is none of ours, or made to harm."""
    infos, names = archive.infolist(), archive.namelist()
    for info in infos:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"The zip's member {info.filename!r} leads out of it.")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(f"The zip's member {info.filename!r} is a link.")
    if len(set(names)) < len(names):
        raise ValueError("The zip has two members of one name.")
    # What is larger than it says is cut there by its reader, and then damaged.
    if sum(info.file_size for info in infos) > ZIP_MAX:
        raise ValueError("The zip holds more than 2 GiB.")
    if not {"accounts.jsonl", "comments.jsonl", "pictures.jsonl"} <= set(names):
        raise ValueError("This zip is none that `flask export` made.")


def _read(archive: zipfile.ZipFile, name: str, length: int) -> bytes:
    if name not in archive.NameToInfo:
        raise ValueError(f"{name} is missing")
    if archive.getinfo(name).file_size > length:
        raise ValueError(f"{name} has more than {length:,} bytes")
    return archive.read(name)
