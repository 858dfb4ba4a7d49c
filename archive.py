"""The blog to a file and from one: our own zip, a WordPress export, a folder of Markdown.

What comes in passes the limits of the forms. Nothing here commits.
"""

import json
import re
import stat
import struct
import tomllib
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, is_zipfile

import sqlalchemy as sa
import yaml

import forms
import models
import wordpress
from database import Base, UTCDateTime, db, now
from models import EPOCH, NEVER, Comment, Picture, Post, User
from pictures import BYTES_MAX

CHUNK = 100  # rows that are read or written at once; so many pictures take 30 MB
TEXT_MAX = 1024 * 1024  # bytes of a post's file or of a line; ours have at most 0.3 million
ZIP_MAX = 2 * 1024**3  # bytes of all that a zip holds; as many as 20,000 pictures
FRONT_MAX = 10_000  # characters of front matter; ours has 800
BRACKETS_MAX = 200  # in it; thousands within each other take seconds
NO_PASSWORD = "!"  # no password has this hash; a reset link works
ZIPPED = {User: "accounts", Post: "posts", Comment: "comments", Picture: "pictures"}
NEEDED = {"username", "role", "title", "body", "created_at", "published_at"}  # in their rows
# By what a row is known again; accounts are by their names.
SAME = {
    Post: (Post.author_id, Post.created_at, Post.title),
    Comment: (Comment.post_id, Comment.author_id, Comment.created_at, Comment.body),
    Picture: (Picture.name,),
}
# Characters of a table's texts that the database does not bound.
LENGTHS = {"users": forms.ABOUT_MAX, "posts": forms.POST_MAX, "comments": forms.COMMENT_MAX}
USERNAME = re.compile(f"[A-Za-z0-9_-]{{{forms.USERNAME_MIN},{models.USERNAME_MAX}}}")
FRONT = re.compile(r"\ufeff?(---|\+\+\+)[ \t]*\n((?:.*\n)*?)\1[ \t]*(?:\n\n?|\Z)([\s\S]*)")
# The same in JSON, which has no mark around it.
JSON_FRONT = re.compile(r"\ufeff?()(\{\n(?:.*\n)*?\})[ \t]*(?:\n\n?|\Z)([\s\S]*)")
# A file's name, as Jekyll gives it; Hugo's pages of lists are not meant.
FILE = re.compile(r"(?!_index\.)(\d{4}-\d\d-\d\d)?-?(.*)\.(?:md|markdown)")
UNPUBLISHED = {("state", "draft"), ("draft", "true"), ("published", "false")}  # in front matter
# What a damaged file makes its reader raise.
DAMAGED = (ParseError, BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError)
Record = dict[str, Any]
# How values of JSON, YAML, TOML or XML become a column's; ValueError for what does not.
READERS: dict[type, Callable[[Any], Any]] = {
    sa.Integer: models.id_of,
    sa.Boolean: lambda given: str(given).lower() == "true",
    sa.String: lambda given: forms.tidy(str(given)),
    sa.LargeBinary: bytes,
}
# What goes through things, with a label and their number, and shows how far it is.
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]


def untracked(things: Iterable[Any], _label: str, _length: int) -> Iterable[Any]:
    """The same things, without showing it."""
    return things


def export(file: BinaryIO, user: User | None = None, track: Track = untracked) -> None:
    """Write the blog as a zip, or of one user what is theirs, without the password.

    The same blog makes the same bytes. Comments are read before posts, and these before accounts,
    so that nothing refers to what was added meanwhile.
    """
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:

        def write(name: str, lines: Iterable[bytes]) -> None:
            """Write a member, which is as old in every export."""
            with archive.open(name, "w") as member:
                member.writelines(lines)

        write("comments.jsonl", map(_line, _rows(Comment, user, track)))
        pictures = []
        for row in _rows(Picture, user, track):
            write(f"pictures/{row['name']}", [row.pop("webp")])
            pictures.append(_line(row))
        write("pictures.jsonl", pictures)
        for row in _rows(Post, user, track):
            slug = Post(title=row["title"]).slug
            write(f"posts/{row['id']}-{slug}.md", [_markdown(row, slug)])
        write("accounts.jsonl", map(_line, _rows(User, user, track)))


def load(path: Path, zone: tzinfo, author: str = "", track: Track = untracked) -> "Import":
    """Add what the blog lacks of a zip of ours, a WordPress export or a folder of Markdown.

    Times without a zone are in `zone`. Who wrote a post that names no author is `author`, else the
    owner. In an empty blog ids stay as they were, and the first account is the owner's. ValueError,
    with a sentence, when the file or the database refuses the whole: then roll back.
    """
    work = Import(zone, author, track)
    take_file = work.take_zip if is_zipfile(path) else work.take_wordpress
    try:
        (work.take_folder if path.is_dir() else take_file)(path)
        work.finish()
    except DAMAGED as error:
        raise ValueError(f"This file is damaged, or no zip and no whole XML: {error}.") from error
    except (sa.exc.IntegrityError, sa.exc.DataError) as error:
        raise ValueError(f"The database refuses it: {str(error.orig).splitlines()[0]}.") from error
    return work


class Import:
    """One import: what it knows of the blog, how each kind of thing comes in, and what it did."""

    def __init__(self, zone: tzinfo, author: str, track: Track) -> None:
        self.zone, self.track = zone, track
        # What it did: numbers by noun, and sentences that begin with a place in the file.
        self.added, self.known, self.left_out = Counter[str](), Counter[str](), Counter[str]()
        self.skipped: list[str] = []  # bad records
        self.not_fetched: list[str] = []  # attachments
        users = db.session.scalars(sa.select(User).order_by(User.id)).all()
        self.accounts = {user.username.lower(): user for user in users}
        self.is_empty = not users
        self.author = author or next((user.username for user in users if user.is_owner), "")
        self.readers = READERS | {UTCDateTime: self.time, sa.JSON: self.tags}
        self.post_ids: dict[str, int] = {}  # by the ids in the file
        self.logins: dict[str, str] = {}  # by WordPress's ids
        self.here: dict[int, Any] = {}  # ids by the hash of what a row is known again by
        self.marks: dict[int, int] = {}  # of the texts that are added, by the same hash
        for model, columns in SAME.items():
            query = sa.select(sa.inspect(model).primary_key[0], *columns)
            found = db.session.execute(query.execution_options(yield_per=CHUNK))
            self.here |= {hash((model, *key)): id for id, *key in found}

    def sentences(self) -> list[str]:
        """What it did, for people, the numbers last."""
        numbers = {"Added": self.added, "Here already": self.known, "Left out": self.left_out}
        numbers["Not fetched"] = Counter(attachments=len(self.not_fetched))
        numbers["Skipped"] = Counter({"bad records": len(self.skipped)})
        texts = [
            f"{claim}: {', '.join(f'{count:,} {noun}' for noun, count in (+counts).items())}."
            for claim, counts in numbers.items()
            if +counts
        ]
        return [*self.not_fetched, *self.skipped, *(texts or ["There is nothing in it."])]

    @contextmanager
    def record(self, place: str) -> Iterator[None]:
        """Report what is bad or unfit in the record at that place, and go on with the next."""
        try:
            yield
        except wordpress.UnfitError as error:
            self.left_out[str(error)] += 1
        except RecursionError:
            self.skipped.append(f"{place}: it is nested too deeply.")
        except (ValueError, yaml.YAMLError) as error:
            self.skipped.append(f"{place}: {' '.join(str(error).split())}.")

    # One row

    def add(self, model: type[Base], record: Record) -> Any:
        """Take what an account wrote or drew, unless its like is here; its id here."""
        name = str(record.get("author"))
        author = self.accounts.get(name.lower())
        if not author:
            raise ValueError(f"its author “{name}” has no account")
        row = record | {"author_id": author.id}
        if not author.banned_at:  # here; where the file was made, what they wrote may be hidden
            row["published_at"] = row.get("withheld_at") or row.get("published_at")
            row["withheld_at"] = None
            row["state"] = "waiting" if row.get("state") == "waiting" else "shown"
        values = self.values(model, row)
        key = hash((model, *(values[column.key] for column in SAME[model])))
        mark = hash(values.get("body"))
        if self.marks.get(key, mark) != mark:  # another one of the same time and title
            key = hash((key, mark))
        if key in self.here:
            self.known[ZIPPED[model]] += 1
        else:
            self.marks[key], self.here[key] = mark, self.save(model(**values))
        return self.here[key]

    def save(self, row: Base) -> Any:
        """Write a row, a comment with the next hundred; its id, if it has one yet."""
        self.added[ZIPPED[type(row)]] += 1
        db.session.add(row)
        if not isinstance(row, Comment) or len(db.session.new) >= CHUNK:
            db.session.flush()
        return getattr(row, "id", None)

    def finish(self) -> None:
        """Write the comments that wait, and let PostgreSQL count on from the ids that stayed."""
        db.session.flush()
        for model in (User, Post, Comment):
            if self.is_empty and db.engine.dialect.name == "postgresql":
                sequence = sa.func.pg_get_serial_sequence(model.__tablename__, "id")
                db.session.execute(sa.select(sa.func.setval(sequence, sa.func.max(model.id))))

    def values(self, model: type[Base], record: Record) -> Record:
        """The record's values for the model's columns; ValueError for what no form would take."""
        values = {}
        for column in _columns(model):
            name, given = column.name, record.get(column.name)
            if given is not None and (name != "id" or self.is_empty):
                values[name] = self.value(column, given)
            if name in NEEDED and not values.get(name):
                raise ValueError(f"it has no {name}")
        return values

    def value(self, column: sa.Column[Any], given: Any) -> Any:
        """What JSON, YAML, TOML or XML gives for a column, as the column has it."""
        name, kind, length = column.name, type(column.type), getattr(column.type, "length", None)
        try:
            if isinstance(given, list | dict) and kind is not sa.JSON:
                raise ValueError(given)
            value = self.readers[kind](given)
        except ValueError as error:
            raise ValueError(f"its {name} cannot be read: {str(given)[:40]}") from error
        if length:
            value = " ".join(value.split())
        most = length or LENGTHS.get(column.table.name, TEXT_MAX)
        if isinstance(value, str) and len(value) > most:
            raise ValueError(f"its {name} has {len(value):,} characters; it can have {most:,}")
        return value

    def time(self, given: Any) -> datetime:
        """An aware time of a text in ISO 8601, or with a space before the zone as in Jekyll."""
        at = datetime.fromisoformat(re.sub(r" +(?=[-+Z])", "", str(given).strip()))
        at = at if at.tzinfo else at.replace(tzinfo=self.zone)
        if not EPOCH <= at <= NEVER:
            raise ValueError(given)
        return at

    def tags(self, names: list[Any]) -> list[str]:
        """The tags as a post has them; counts those that are none, and those that are too many."""
        texts = (str(name).lower()[: forms.NORMALIZED_MAX] for name in names)
        lines = (re.sub(r"[/\\,]", " ", unicodedata.normalize("NFC", text)) for text in texts)
        tags = dict.fromkeys(" ".join(forms.tidy(line).split()).lstrip("# ") for line in lines)
        fit = [tag for tag in tags if forms.is_word(tag) and len(tag) <= models.TAG_MAX]
        self.left_out["tags"] += len(tags) - len(fit[: forms.TAGS_MAX])
        return fit[: forms.TAGS_MAX]

    # People

    def account(self, record: Record) -> None:
        """Take an account, with its password if it has one, unless its name is taken."""
        values = self.values(User, {"password_hash": NO_PASSWORD, "role": "member"} | record)
        name = values["username"]
        if not USERNAME.fullmatch(name):
            raise ValueError(f"“{name}” is no username")
        if values["role"] not in models.ROLES:
            raise ValueError(f"“{values['role']}” is no role")
        if name.lower() in self.accounts:
            self.known["accounts"] += 1
            return
        if not self.is_empty and values["role"] == "owner":
            values["role"] = "author"
        self.accounts[name.lower()] = user = User(**values)
        self.save(user)

    def person(self, name: str, shown: str = "", is_author: bool = True) -> str:
        """The username here of somebody from elsewhere, new or from an import before.

        An author is whoever has that username here. Anybody may have called themselves anything in
        a comment, so their accounts are never those of people who log in.
        """
        if not name:
            raise ValueError("it names no author")
        plain = re.sub("[ .@]", "-", name)
        marked = f"{re.sub('[^A-Za-z0-9_-]', '', plain)[:21]}-{zlib.crc32(name.encode()):08x}"
        for username in (plain, marked):
            user = self.accounts.get(username.lower())
            if user and (is_author or user.password_hash == NO_PASSWORD):
                return username
            is_reserved = username.lower() in forms.RESERVED and not is_author
            if not user and not is_reserved and USERNAME.fullmatch(username):
                self.newcomer(username, shown or name, is_author)
                return username
        raise ValueError(f"no username is free for “{name[:40]}”")

    def newcomer(self, username: str, shown: str, is_author: bool) -> None:
        """Add the account of somebody from elsewhere; a reader's is not shown as another's."""
        shown = " ".join(forms.UNSEEN.sub("", shown).split())[: models.DISPLAY_NAME_MAX]
        is_taken = shown.lower() in forms.RESERVED or shown.lower() in self.accounts
        if shown == username or (is_taken and not is_author):
            shown = ""
        role = "owner" if not self.accounts else "author" if is_author else "member"
        record = {"username": username, "display_name": shown, "role": role, "created_at": now()}
        self.account(record)

    # Files

    def take_zip(self, path: Path) -> None:
        """Take all of a zip that `export` wrote."""
        with ZipFile(path) as archive:
            _check(archive)
            self.take_lines(archive, "accounts", self.account)
            posts = [name for name in archive.namelist() if re.match(r"posts/[^/]+\.md$", name)]
            for name in self.track(posts, "posts", len(posts)):
                with self.record(name):
                    post = _post(PurePosixPath(name), _read(archive, name, TEXT_MAX))
                    self.post_ids[str(post.get("id"))] = self.add(Post, post)
            self.take_lines(archive, "comments", self.comment)
            self.take_lines(archive, "pictures", partial(self.picture, archive))

    def take_lines(self, archive: ZipFile, noun: str, take: Callable[[Record], None]) -> None:
        """Take each record of a file of JSON lines."""
        name = f"{noun}.jsonl"
        with archive.open(name) as file:
            lines = partial(iter, partial(file.readline, TEXT_MAX), b"")
            count = sum(1 for _ in lines())
            file.seek(0)
            for number, line in enumerate(self.track(lines(), noun, count), start=1):
                with self.record(f"{name}, line {number}"):
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise ValueError("it is no JSON object")
                    take(record)

    def comment(self, record: Record) -> None:
        """Take a comment on a post of the same zip."""
        post_id = self.post_ids.get(str(record.get("post_id")))
        if not post_id:
            raise ValueError("its post is not in this file")
        self.add(Comment, record | {"post_id": post_id})

    def picture(self, archive: ZipFile, record: Record) -> None:
        """Take a picture with its file."""
        name = str(record.get("name"))
        if not re.fullmatch(models.PICTURE, f"/pictures/{name}"):
            raise ValueError(f"“{name[:60]}” is no picture's name")
        webp = _read(archive, f"pictures/{name}", BYTES_MAX)
        if webp[:4] + webp[8:12] != b"RIFFWEBP":
            raise ValueError(f"{name} is no WebP")
        self.add(Picture, record | {"webp": webp})

    def take_folder(self, folder: Path) -> None:
        """Take every Markdown file below a folder, but for Hugo's pages of lists."""
        files = [path for path in sorted(folder.rglob("*.m*")) if FILE.fullmatch(path.name)]
        files = [path for path in files if path.is_file()]
        for path in self.track(files, "files", len(files)):
            name = path.relative_to(folder)
            with self.record(str(name)), path.open("rb") as file:
                post = _post(name, file.read(TEXT_MAX))
                authors = post.get("author") or post.get("authors") or self.author
                author = str(authors[0] if isinstance(authors, list) else authors)
                self.add(Post, post | {"id": None, "author": self.person(author)})

    def take_wordpress(self, path: Path) -> None:
        """Take the authors, posts and comments of a WordPress export, as it is read."""
        steps = range(0, path.stat().st_size, TEXT_MAX)
        with path.open("rb") as file:
            chunks = (file.read(TEXT_MAX) for _ in self.track(steps, "MiB", len(steps)))
            for place, fields, comments in wordpress.blocks(chunks):
                post_id = 0
                with self.record(place):
                    post_id = self.wordpress_block(place, fields)
                for number, comment in enumerate(comments, start=1):
                    with self.record(f"{place}, comment {number}"):
                        self.wordpress_comment(comment, post_id)

    def wordpress_block(self, place: str, fields: wordpress.Fields) -> Any:
        """Take an author or an item; its id here, if it is a post."""
        if fields["author_login"]:
            author = self.person(fields["author_login"], fields["author_display_name"])
            self.logins[fields["author_id"]] = author
        elif fields["post_type"] == "attachment":
            address = fields["attachment_url"]
            self.not_fetched.append(f"{place}: {address} was not fetched.")
        else:
            post = wordpress.post(fields)
            return self.add(Post, post | {"author": self.person(fields["creator"] or self.author)})
        return None

    def wordpress_comment(self, fields: wordpress.Fields, post_id: Any) -> None:
        """Take a comment on a post that was taken."""
        if not post_id:
            raise wordpress.UnfitError("comments (without a post)")
        comment = wordpress.comment(fields)
        author = self.logins.get(fields["comment_user_id"] or "0")  # 0 is nobody's
        author = author or self.person(comment["author"], is_author=False)
        self.add(Comment, comment | {"post_id": post_id, "author": author})


def _columns(model: type[Base]) -> list[sa.Column[Any]]:
    columns = Base.metadata.tables[model.__tablename__].columns
    return [column for column in columns if not column.computed]


def _rows(model: type[Any], user: User | None, track: Track) -> Iterable[Record]:
    """The model's rows, or the user's of them, by key, each with its author's username."""
    owner = User.id if model is User else model.author_id
    hidden = {"author_id", "password_hash" if user else ""}
    query = sa.select(*(column for column in _columns(model) if column.name not in hidden))
    if model is not User:
        query = query.add_columns(User.username.label("author")).join(User, User.id == owner)
    query = query.where(owner == user.id) if user else query
    count = db.session.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0
    query = query.order_by(sa.inspect(model).primary_key[0]).execution_options(yield_per=CHUNK)
    rows = (dict(row) for row in db.session.execute(query).mappings())
    return track(rows, ZIPPED[model], count)


def _line(row: Record) -> bytes:
    return f"{json.dumps(row, default=str, ensure_ascii=False)}\n".encode()


def _markdown(row: Record, slug: str) -> bytes:
    """A post's file: first what people look for, then every other column that says something."""
    title, body, at = row.pop("title"), row.pop("body"), row.pop("published_at")
    state = "draft" if at == NEVER else "scheduled" if at > now() else "published"
    front = {"title": title, "slug": slug, "author": row.pop("author"), "state": state}
    front |= {} if state == "draft" else {"date": at}
    front |= {name: value for name, value in row.items() if value is not None}
    text = yaml.safe_dump(front, allow_unicode=True, sort_keys=False)
    return f"---\n{text}---\n\n{body}".encode()


def _post(path: PurePath, text: bytes) -> Record:
    """The row that a file of ours, of Hugo or of Jekyll makes, among its front matter."""
    front, body = _front(forms.tidy(text.decode()))
    day, slug = FILE.findall(path.name)[0]
    title = path.parent.name if slug == "index" else slug
    date = front.get("date") or day
    row = {"title": title.replace("-", " "), "created_at": date or EPOCH}
    row |= {"updated_at": front.get("lastmod")} | front | {"body": body}
    signs = {(name, str(value).lower()) for name, value in front.items()}
    is_draft = not date or "_drafts" in path.parts or signs & UNPUBLISHED
    row["published_at"] = NEVER if is_draft else date
    row["tags"] = [*_words(front.get("tags")), *_words(front.get("categories"))]
    return row


def _front(text: str) -> tuple[Record, str]:
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


def _check(archive: ZipFile) -> None:
    """ValueError for a zip that is none of ours, or made to harm."""
    for info in archive.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"The zip's member {info.filename!r} leads out of it.")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(f"The zip's member {info.filename!r} is a link.")
    # What is larger than it says is cut there by its reader, and then damaged.
    if sum(info.file_size for info in archive.infolist()) > ZIP_MAX:
        raise ValueError("The zip holds more than 2 GiB.")
    if not {"accounts.jsonl", "comments.jsonl", "pictures.jsonl"} <= set(archive.namelist()):
        raise ValueError("This zip is none that `flask export` made.")


def _read(archive: ZipFile, name: str, length: int) -> bytes:
    if name not in archive.NameToInfo:
        raise ValueError(f"{name} is missing")
    if archive.getinfo(name).file_size > length:
        raise ValueError(f"{name} has more than {length:,} bytes")
    return archive.read(name)
