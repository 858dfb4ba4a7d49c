"""Checks records and saves them, 100 in a transaction, so that other writers need not wait long."""

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from itertools import groupby, islice
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute

import forms
import models
from core.database import Base, Metadata, advisory_lock, atomic, db
from core.rendering import INVISIBLE
from extras.pictures import Picture
from extras.tags import clean_tags
from models import Comment, Post, User
from porting.records import (
    MODELS,
    ExternalUser,
    Kind,
    Parsed,
    Problem,
    Record,
    Values,
    column_values,
)

CHUNK = 100  # records in one transaction, which takes about 0.1 s
NO_PASSWORD = "!"  # the hash of no password; a reset link gives the account one
UNFINISHED_IMPORT = "unfinished import"  # its row in Metadata has the digest of the file
USERNAME = re.compile(f"[A-Za-z0-9_-]{{{forms.USERNAME_MIN},{models.USERNAME_MAX}}}")
# A record with the same values in these columns as a row is already in the blog. Accounts are
# identified by their usernames.
IDENTITY: dict[Kind, tuple[InstrumentedAttribute[object], ...]] = {
    "posts": (Post.author_id, Post.created_at, Post.title),
    "comments": (Comment.post_id, Comment.author_id, Comment.created_at, Comment.body),
    "pictures": (Picture.name,),
}
REJECTED_ROW = (sa.exc.IntegrityError, sa.exc.DataError)  # what the database raises for a bad row


@dataclass
class Report:
    """The result of an import: counts by kind of record, and sentences about single records."""

    added: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)  # already in the blog
    left_out: Counter[str] = field(default_factory=Counter)  # unsupported, by reason
    skipped: list[str] = field(default_factory=list)  # invalid records
    not_fetched: list[str] = field(default_factory=list)  # attachments

    @property
    def is_complete(self) -> bool:
        """Whether everything that a user wrote or uploaded was imported."""
        return not (self.skipped or self.not_fetched or self.left_out.total())

    def add(self, problem: Problem) -> None:
        """Count the problem, or describe it in a sentence."""
        sentence = f"{problem.location}: {problem.reason}."
        if problem.category == "invalid":
            self.skipped.append(sentence)
        elif problem.category == "not fetched":
            self.not_fetched.append(sentence)
        else:
            self.left_out[problem.reason] += 1

    def sentences(self) -> list[str]:
        """The report for the user, with the counts at the end."""
        counters = {
            "Added": self.added,
            "Here already": self.known,
            "Left out": self.left_out,
            "Not fetched": Counter(attachments=len(self.not_fetched)),
            "Skipped": Counter({"bad records": len(self.skipped)}),
        }
        totals = []
        for label, counter in counters.items():
            counts = [f"{count:,} {name}" for name, count in counter.items() if count]
            if counts:
                totals.append(f"{label}: {', '.join(counts)}.")
        return [*self.not_fetched, *self.skipped, *(totals or ["There is nothing in it."])]


class Account(NamedTuple):
    """An account in this blog."""

    id: int
    is_commenter: bool  # made for a commenter of an import, who cannot log in


class Writer:
    """One import: the rows that the blog already has, and the report."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self.report = Report()
        self.preserves_ids = False
        self.accounts: dict[str, Account] = {}  # by username in lower case
        self.post_ids: dict[str, int] = {}  # in this blog, by the id in the source
        # Primary keys of the rows that no record has matched yet, the oldest last, by the hash of
        # their identity, which takes less memory than the texts.
        self.unmatched: dict[int, list[int | str]] = defaultdict(list)
        for user in db.session.scalars(sa.select(User)):
            self._index_account(user)
        for kind, columns in IDENTITY.items():
            primary_key = sa.inspect(MODELS[kind]).primary_key[0]
            query = sa.select(primary_key, *columns).order_by(primary_key.desc())
            for key, *identity in db.session.execute(query.execution_options(yield_per=CHUNK)):
                self.unmatched[hash((kind, *identity))].append(key)

    def write(
        self, source: Iterable[Parsed], digest: str = "", largest_ids: dict[Kind, int] | None = None
    ) -> None:
        """Save the records: all accounts in the first transaction, then chunks of the others.

        With the digest of the file and the largest ids in it, an empty blog gets the ids of the
        file, also when such an import was interrupted and is repeated.
        """
        records = self._report_problems(source)
        for is_accounts, group in groupby(records, lambda record: record.kind == "accounts"):
            if is_accounts:
                self._write_accounts(list(group), digest, largest_ids)
                continue
            while chunk := list(islice(group, CHUNK)):
                for kind in IDENTITY:
                    self._write_chunk([record for record in chunk if record.kind == kind])
        if self.preserves_ids:
            with atomic():
                db.session.execute(sa.delete(Metadata).where(Metadata.name == UNFINISHED_IMPORT))

    def _report_problems(self, source: Iterable[Parsed]) -> Iterator[Record]:
        """The records of the source; its problems go into the report."""
        for item in source:
            if isinstance(item, Problem):
                self.report.add(item)
            else:
                yield item

    @contextmanager
    def _report_invalid(self, record: Record) -> Iterator[None]:
        """Make a ValueError a problem of this record, so that the import continues."""
        try:
            yield
        except ValueError as error:
            self.report.add(Problem(record.location, str(error)))

    # Accounts

    def _index_account(self, user: User) -> Account:
        is_commenter = user.password_hash == NO_PASSWORD and user.role == "member"
        account = Account(user.id, is_commenter)
        self.accounts[user.username.lower()] = account
        return account

    def _write_accounts(
        self, records: list[Record], digest: str, largest_ids: dict[Kind, int] | None
    ) -> None:
        with atomic():
            # Nobody may sign up and become the owner at the same time.
            advisory_lock(db.session.connection())
            if largest_ids and self._may_preserve_ids(digest):
                self.preserves_ids = True
                db.session.merge(Metadata(name=UNFINISHED_IMPORT, value=digest))
                _reserve_ids(largest_ids)
            for record in records:
                with self._report_invalid(record):
                    if isinstance(record.author, ExternalUser):
                        self._account_for(record.author)
                    elif values := self._account_values(record):
                        self._insert([(record, values)])

    def _may_preserve_ids(self, digest: str) -> bool:
        """Whether the blog is empty, or has only a part of this file."""
        if not User.any_exists():
            return True
        unfinished = db.session.get(Metadata, UNFINISHED_IMPORT)
        return unfinished is not None and unfinished.value == digest

    def _account_values(self, record: Record) -> Values | None:
        """The values of a new account; None if there is one of that username."""
        fields = {"password_hash": NO_PASSWORD, "role": "member"} | record.fields
        values = column_values(User, fields, self.zone)
        username = str(values["username"])
        if not USERNAME.fullmatch(username):
            raise ValueError(f"“{username}” is no username")
        if values["role"] not in models.ROLES:
            raise ValueError(f"“{values['role']}” is no role")
        if username.lower() in self.accounts:
            self.report.known["accounts"] += 1
            return None
        if values["role"] == "owner" and not self.preserves_ids:
            values["role"] = "author"  # a blog in use keeps its owner
        return values

    def _author_id(self, record: Record) -> int:
        """The id of the record's author; an external user gets an account."""
        if isinstance(record.author, ExternalUser):
            return self._account_for(record.author).id
        account = self.accounts.get(record.author.lower())
        if not account:
            raise ValueError(f"its author “{record.author}” has no account")
        return account.id

    def _account_for(self, user: ExternalUser) -> Account:
        """The account of an external user: an existing one with the username, or a new one.

        An author gets any account with the username. A commenter does not get one with a password:
        anybody could have typed that name.
        """
        if not user.name:
            raise ValueError("it names no author")
        username = re.sub("[ .@]", "-", user.name)
        # The second candidate is for names that are taken, too long or in other letters. Its
        # checksum is the same in every import.
        letters = re.sub("[^A-Za-z0-9_-]", "", username)[:21]
        with_checksum = f"{letters}-{zlib.crc32(user.name.encode()):08x}"
        for candidate in (username, with_checksum):
            account = self.accounts.get(candidate.lower())
            if account and (user.is_author or account.is_commenter):
                return account
            is_reserved = candidate.lower() in forms.RESERVED_NAMES and not user.is_author
            if not account and not is_reserved and USERNAME.fullmatch(candidate):
                return self._create_account(candidate, user)
        raise ValueError(f"no username is free for “{user.name[:40]}”")

    def _create_account(self, username: str, user: ExternalUser) -> Account:
        """Add an account without a password; a commenter must not look like another user."""
        display_name = INVISIBLE.sub("", user.display_name or user.name)
        display_name = " ".join(display_name.split())[: models.DISPLAY_NAME_MAX]
        folded = display_name.lower()
        is_taken = folded in forms.RESERVED_NAMES or folded in self.accounts
        if display_name == username or (is_taken and not user.is_author):
            display_name = ""
        role = "author" if user.is_author else "member"
        if not self.accounts:
            role = "owner"  # as when the first user signs up
        row = User(username=username, password_hash=NO_PASSWORD, role=role)
        row.display_name = display_name
        db.session.add(row)
        db.session.flush()
        self.report.added["accounts"] += 1
        return self._index_account(row)

    # Posts, comments and pictures

    def _write_chunk(self, records: list[Record]) -> None:
        """Save new records of one kind, in one transaction."""
        if not records:
            return
        rows = []
        with atomic():
            for record in records:
                with self._report_invalid(record):
                    if values := self._new_values(record):
                        rows.append((record, values))
            self._insert(rows)

    def _new_values(self, record: Record) -> Values | None:
        """The values of a post, comment or picture; None if the blog already has it."""
        fields = record.fields | {"author_id": self._author_id(record)}
        if record.kind == "posts":
            fields["tags"], left_out = clean_tags(fields["tags"])
            self.report.left_out["tags"] += left_out
        if record.kind == "comments":
            fields["post_id"] = self.post_ids.get(str(fields.get("post_id")))
            if not fields["post_id"]:
                raise ValueError("its post is not in this file")
        values = column_values(MODELS[record.kind], fields, self.zone)
        identity = [values[column.key] for column in IDENTITY[record.kind]]
        unmatched = self.unmatched[hash((record.kind, *identity))]
        if not unmatched:
            return values
        # Each row matches one record: of two equal records, the second one may be new.
        key = unmatched.pop()
        if record.kind == "posts":
            self.post_ids[record.id] = int(key)
        self.report.known[record.kind] += 1
        return None

    def _insert(self, rows: list[tuple[Record, Values]]) -> None:
        """Save checked rows of one kind, without those that the database rejects."""
        try:
            with db.session.begin_nested():
                saved = self._save(rows)
        except REJECTED_ROW as error:
            if len(rows) > 1:  # one by one, to find the bad row
                for single in rows:
                    self._insert([single])
                return
            record, _ = rows[0]
            reason = str(error.orig).splitlines()[0]
            self.report.add(Problem(record.location, f"the database refuses it: {reason}"))
            return
        for (record, _), row in zip(rows, saved, strict=True):
            self.report.added[record.kind] += 1
            if isinstance(row, Post):
                self.post_ids[record.id] = row.id
            if isinstance(row, User):
                self._index_account(row)

    def _save(self, rows: list[tuple[Record, Values]]) -> list[Base]:
        saved = []
        for record, values in rows:
            if not self.preserves_ids:
                values.pop("id", None)
            saved.append(MODELS[record.kind](**values))
        db.session.add_all(saved)
        db.session.flush()
        posts = [row for row in saved if isinstance(row, Post)]
        if posts:
            Post.save(*posts)
        return saved


def _reserve_ids(largest_ids: dict[Kind, int]) -> None:
    """Give larger ids to new rows, which are written while the import goes on."""
    for kind, id in largest_ids.items():
        if not id:
            continue
        table = MODELS[kind].__tablename__
        if db.engine.dialect.name == "postgresql":
            sequence = sa.func.pg_get_serial_sequence(table, "id")
            db.session.execute(sa.select(sa.func.setval(sequence, id)))
            continue
        # The table has no unique key, so the row is replaced in two steps.
        row = {"table": table, "id": id}
        delete = sa.text("DELETE FROM sqlite_sequence WHERE name = :table")
        insert = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :id)")
        db.session.execute(delete, row)
        db.session.execute(insert, row)
