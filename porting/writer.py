"""Checks records and saves them, a hundred in a transaction, so that others write meanwhile."""

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from itertools import groupby, islice
from typing import Any, NamedTuple

import sqlalchemy as sa

import forms
import models
from core.database import Base, advisory_lock, atomic, db, now
from core.rendering import INVISIBLE
from extras.pictures import Picture
from extras.tags import clean_tags
from models import Comment, Metadata, Post, User
from porting import records
from porting.records import MODELS, Fields, Person, Problem, Record

CHUNK = 100  # records in one transaction, which takes about 0.1 s
NO_PASSWORD = "!"  # no password has this hash; a reset link works
UNFINISHED = "unfinished import"  # the name of the file's digest in Metadata
USERNAME = re.compile(f"[A-Za-z0-9_-]{{{forms.USERNAME_MIN},{models.USERNAME_MAX}}}")
# By what a row is known again; accounts are by their names.
SAME = {
    "posts": (Post.author_id, Post.created_at, Post.title),
    "comments": (Comment.post_id, Comment.author_id, Comment.created_at, Comment.body),
    "pictures": (Picture.name,),
}
REFUSED = (sa.exc.IntegrityError, sa.exc.DataError)  # what the database raises for a bad row


@dataclass
class Report:
    """What an import has done: numbers by noun, and sentences that begin with a place."""

    added: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)  # bad records
    not_fetched: list[str] = field(default_factory=list)  # attachments

    @property
    def is_complete(self) -> bool:
        """Whether nothing was left out that a person wrote or drew."""
        return not (self.skipped or self.not_fetched or +self.left_out)

    def note(self, problem: Problem) -> None:
        """Write down what does not come in."""
        sentence = f"{problem.place}: {problem.reason}."
        if problem.kind == "bad":
            self.skipped.append(sentence)
        elif problem.kind == "not fetched":
            self.not_fetched.append(sentence)
        else:
            self.left_out[problem.reason] += 1

    def sentences(self) -> list[str]:
        """What was done, for people, the numbers last."""
        numbers = {"Added": self.added, "Here already": self.known, "Left out": self.left_out}
        numbers["Not fetched"] = Counter(attachments=len(self.not_fetched))
        numbers["Skipped"] = Counter({"bad records": len(self.skipped)})
        texts = [
            f"{claim}: {', '.join(f'{count:,} {noun}' for noun, count in (+counts).items())}."
            for claim, counts in numbers.items()
            if +counts
        ]
        return [*self.not_fetched, *self.skipped, *(texts or ["There is nothing in it."])]


class Account(NamedTuple):
    """An account that is here."""

    id: int
    can_log_in: bool


class Writer:
    """One import: what it knows of the blog, and what it has done."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone, self.report = zone, Report()
        self.accounts: dict[str, Account] = {}  # by their usernames in lower case
        for user in db.session.scalars(sa.select(User)):
            self._remember(user)
        self.keeps_ids = False
        self.post_ids: dict[str, int] = {}  # by the ids in the file
        # The ids of the rows that are here, by what they are known again by, the oldest last.
        self.here: dict[int, list[Any]] = defaultdict(list)
        for noun, columns in SAME.items():
            key = sa.inspect(MODELS[noun]).primary_key[0]
            query = sa.select(key, *columns).order_by(key.desc())
            for id, *same in db.session.execute(query.execution_options(yield_per=CHUNK)):
                self.here[hash((noun, *same))].append(id)

    def write(
        self, found: Iterable[Record | Problem], digest: str = "", ids: dict[str, int] | None = None
    ) -> None:
        """Save the records, the accounts first and in one transaction.

        With the file's digest and its largest ids, an empty blog keeps the ids, and a repeat of an
        import that was not finished goes on with that.
        """
        sorted_out = self._without_problems(found)
        groups = groupby(sorted_out, lambda record: record.noun == "accounts")
        for is_accounts, group in groups:
            if is_accounts:
                self._write_accounts(list(group), digest, ids)
                continue
            while chunk := list(islice(group, CHUNK)):
                for noun in SAME:
                    if same := [record for record in chunk if record.noun == noun]:
                        self._write_chunk(same)
        if self.keeps_ids:
            with atomic():
                db.session.execute(sa.delete(Metadata).where(Metadata.name == UNFINISHED))

    def _without_problems(self, found: Iterable[Record | Problem]) -> Iterator[Record]:
        for record in found:
            if isinstance(record, Problem):
                self.report.note(record)
            else:
                yield record

    @contextmanager
    def _note_what_is_bad(self, record: Record) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            self.report.note(Problem(record.place, str(error)))

    # People

    def _remember(self, user: User) -> None:
        can_log_in = user.password_hash != NO_PASSWORD
        self.accounts[user.username.lower()] = Account(user.id, can_log_in)

    def _write_accounts(self, found: list[Record], digest: str, ids: dict[str, int] | None) -> None:
        with atomic():
            advisory_lock(db.session.connection())  # so that nobody becomes the owner meanwhile
            if ids:
                self.keeps_ids = self._may_keep_ids(digest)
            if self.keeps_ids and ids:
                db.session.merge(Metadata(name=UNFINISHED, value=digest))
                _count_from(ids)
            for record in found:
                with self._note_what_is_bad(record):
                    if isinstance(record.author, Person):
                        self._account_of(record.author)
                    elif values := self._account(record):
                        self._insert([(record, values)])

    def _may_keep_ids(self, digest: str) -> bool:
        """Whether the blog is empty, or holds a part of just this file."""
        unfinished = db.session.get(Metadata, UNFINISHED)
        is_empty = not db.session.scalar(sa.select(sa.exists(sa.select(User.id))))
        return is_empty or bool(unfinished and unfinished.value == digest)

    def _account(self, record: Record) -> Fields | None:
        """The values of an account, with its password if it has one; None if its name is taken."""
        fields = {"password_hash": NO_PASSWORD, "role": "member"} | record.fields
        values = records.values(User, fields, self.zone)
        name = values["username"]
        if not USERNAME.fullmatch(name):
            raise ValueError(f"“{name}” is no username")
        if values["role"] not in models.ROLES:
            raise ValueError(f"“{values['role']}” is no role")
        if name.lower() in self.accounts:
            self.report.known["accounts"] += 1
            return None
        if not self.keeps_ids and values["role"] == "owner":
            values["role"] = "author"
        return values

    def _author_id(self, record: Record) -> int:
        """The id of who wrote a record; an account is made for somebody from elsewhere."""
        if isinstance(record.author, Person):
            return self._account_of(record.author).id
        author = self.accounts.get(record.author.lower())
        if not author:
            raise ValueError(f"its author “{record.author}” has no account")
        return author.id

    def _account_of(self, person: Person) -> Account:
        """The account of somebody from elsewhere, new or from an import before.

        An author is whoever has that username here. A reader's account is never that of people who
        log in.
        """
        if not person.name:
            raise ValueError("it names no author")
        plain = re.sub("[ .@]", "-", person.name)
        letters = re.sub("[^A-Za-z0-9_-]", "", plain)[:21]
        for username in (plain, f"{letters}-{zlib.crc32(person.name.encode()):08x}"):
            account = self.accounts.get(username.lower())
            if account and (person.is_author or not account.can_log_in):
                return account
            is_reserved = username.lower() in forms.RESERVED_NAMES and not person.is_author
            if not account and not is_reserved and USERNAME.fullmatch(username):
                return self._newcomer(username, person)
        raise ValueError(f"no username is free for “{person.name[:40]}”")

    def _newcomer(self, username: str, person: Person) -> Account:
        """Add the account of somebody from elsewhere; a reader's is not shown as another's."""
        shown = INVISIBLE.sub("", person.display_name or person.name)
        shown = " ".join(shown.split())[: models.DISPLAY_NAME_MAX]
        is_taken = shown.lower() in forms.RESERVED_NAMES or shown.lower() in self.accounts
        if shown == username or (is_taken and not person.is_author):
            shown = ""
        role = "owner" if not self.accounts else "author" if person.is_author else "member"
        fields = {"username": username, "display_name": shown, "role": role}
        user = User(**fields, password_hash=NO_PASSWORD, created_at=now())
        db.session.add(user)
        db.session.flush()
        self._remember(user)
        self.report.added["accounts"] += 1
        return self.accounts[username.lower()]

    # Texts and pictures

    def _write_chunk(self, found: list[Record]) -> None:
        rows = []
        with atomic():
            for record in found:
                with self._note_what_is_bad(record):
                    if values := self._text(record):
                        rows.append((record, values))
            if rows:
                self._insert(rows)

    def _text(self, record: Record) -> Fields | None:
        """The values of what a user wrote or drew; None if its like is here."""
        fields = record.fields | {"author_id": self._author_id(record)}
        if record.noun == "posts":
            fields["tags"], left_out = clean_tags(fields["tags"])
            self.report.left_out["tags"] += left_out
        if record.noun == "comments":
            fields["post_id"] = self.post_ids.get(str(fields.get("post_id")))
            if not fields["post_id"]:
                raise ValueError("its post is not in this file")
        values = records.values(MODELS[record.noun], fields, self.zone)
        key = hash((record.noun, *(values[column.key] for column in SAME[record.noun])))
        if not self.here[key]:
            return values
        self.report.known[record.noun] += 1
        id = self.here[key].pop()
        if record.noun == "posts":
            self.post_ids[record.id] = id
        return None

    def _insert(self, rows: list[tuple[Record, Fields]]) -> None:
        """Save checked rows of one kind. Where the database refuses one, that one is left out."""
        try:
            with db.session.begin_nested():
                saved = self._save(rows)
        except REFUSED as error:
            if len(rows) > 1:
                for row in rows:
                    self._insert([row])
                return
            reason = str(error.orig).splitlines()[0]
            self.report.note(Problem(rows[0][0].place, f"the database refuses it: {reason}"))
            return
        for (record, _), model in zip(rows, saved, strict=True):
            self.report.added[record.noun] += 1
            if isinstance(model, Post):
                self.post_ids[record.id] = model.id
            if isinstance(model, User):
                self._remember(model)

    def _save(self, rows: list[tuple[Record, Fields]]) -> list[Base]:
        saved = []
        for record, values in rows:
            if not self.keeps_ids:
                values.pop("id", None)
            saved.append(MODELS[record.noun](**values))
        db.session.add_all(saved)
        db.session.flush()
        if posts := [row for row in saved if isinstance(row, Post)]:
            Post.save(*posts)
        return saved


def _count_from(ids: dict[str, int]) -> None:
    """Let new rows have ids past these, so that none meets one of the file's."""
    for noun, id in ids.items():
        table = MODELS[noun].__tablename__
        if db.engine.dialect.name == "postgresql" and id:
            sequence = sa.func.pg_get_serial_sequence(table, "id")
            db.session.execute(sa.select(sa.func.setval(sequence, id)))
        elif id:
            row = {"table": table, "id": id}
            delete = sa.text("DELETE FROM sqlite_sequence WHERE name = :table")
            insert = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :id)")
            db.session.execute(delete, row)
            db.session.execute(insert, row)
