"""Checks records and saves them, 100 in a transaction, so that other writers need not wait long."""

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from itertools import groupby, islice
from urllib.parse import unquote
from uuid import UUID

import sqlalchemy as sa

import forms
import models
from core.database import Metadata, advisory_lock, atomic, db, set_blog_id
from core.pagination import EPOCH
from core.rendering import INVISIBLE
from extras.account import ABOUT_MAX
from extras.tags import clean_tags
from models import Post, User
from porting.records import MODELS, ExternalUser, Fields, Record, Report, column_values
from porting.template_tags import sub_outside_code

CHUNK = 100  # records in one transaction, which takes about 0.1 s
NO_PASSWORD = "!"  # the hash of no password; a reset link gives the account one
UNDATED = timedelta(hours=2)  # of 1970, in which the readers put posts without a date
UNFINISHED_IMPORT = "unfinished import"  # its row in Metadata has the digest of the file
USERNAME = re.compile(f"[A-Za-z0-9_-]{{{forms.USERNAME_MIN},{models.USERNAME_MAX}}}")
# A record with the same values in these columns as a row is already in the blog. Accounts are
# identified by their usernames.
IDENTITY = {
    "posts": ["author_id", "created_at", "title"],
    "comments": ["post_id", "author_id", "created_at", "body"],
    "pictures": ["name"],
}
# What may be the destination of a link in Markdown: `[words](here)`, `[name]: here`, `<here>`.
DESTINATION = re.compile(r"(\]\(<?|\]:[ \t]?<?|<(?=https?:))((?:(?!\]:)[^\s<>()])++)([\s<>)]|\Z)")
REJECTED_ROW = (sa.exc.IntegrityError, sa.exc.DataError)  # what the database raises for a bad row


class NoOwnerError(Exception):
    """A record without an author comes into a blog without accounts."""


class Writer:
    """One import: the rows that the blog already has, and the report."""

    def __init__(self, zone: tzinfo, owner: str = "") -> None:
        self.zone = zone
        self.owner = owner  # whose an empty blog becomes, if that is said
        self.report = Report()
        self.preserves_ids = False
        self.post_ids: dict[str, int] = {}  # in this blog, by the id in the source
        self.paths: dict[str, str] = {}  # of posts in this blog, by the key of their old addresses
        self.linking: list[int] = []  # the ids of the posts of this import with links in them
        self.account_ids: dict[str, int] = {}  # by username in lower case
        self.commenter_ids: set[int] = set()  # of accounts that an import made for commenters
        self.websites: dict[int, str] = {}  # of those commenters
        for user in db.session.scalars(sa.select(User)):
            self._index_account(user)
        # Primary keys of the rows that no record has matched yet, the oldest last, by the hash of
        # their identity, which takes less memory than the texts.
        self.unmatched: dict[int, list[int | str]] = defaultdict(list)
        for kind, names in IDENTITY.items():
            primary_key = sa.inspect(MODELS[kind]).primary_key[0]
            columns = [primary_key.table.columns[name] for name in names]
            query = sa.select(primary_key, *columns).order_by(primary_key.desc())
            for key, *identity in db.session.execute(query.execution_options(yield_per=CHUNK)):
                self.unmatched[hash((kind, *identity))].append(key)

    def write(
        self,
        records: Iterable[Record],
        digest: str = "",
        largest_ids: dict[str, int] | None = None,
        blog_id: UUID | None = None,
    ) -> None:
        """Save the records: all accounts in the first transaction, then chunks of the others.

        With the digest of the file and the largest ids in it, an empty blog gets the ids of the
        file, also that of the blog, also when such an import was interrupted and is repeated.
        """
        records = self._after_owner(records)
        for is_accounts, group in groupby(records, lambda record: record.kind == "accounts"):
            if is_accounts:
                self._write_accounts(list(group), digest, largest_ids, blog_id)
            while chunk := list(islice(group, CHUNK)):
                with atomic():
                    for kind in IDENTITY:
                        self._write_records([record for record in chunk if record.kind == kind])
        self._lead_links()
        if self.preserves_ids:
            with atomic():
                db.session.execute(sa.delete(Metadata).where(Metadata.name == UNFINISHED_IMPORT))

    def _after_owner(self, records: Iterable[Record]) -> Iterable[Record]:
        """The same records. Before the first, which no damaged file has, comes a new owner."""
        for record in records:
            if self.owner and not self.account_ids:
                with atomic():
                    self._index_account(User.create(self.owner, NO_PASSWORD, "post"))
                self.report.added["accounts"] += 1
            yield record

    def _write_accounts(
        self,
        records: list[Record],
        digest: str,
        largest_ids: dict[str, int] | None,
        blog_id: UUID | None,
    ) -> None:
        with atomic():
            # Nobody may sign up and become the owner at the same time.
            advisory_lock(db.session.connection())
            if largest_ids is not None and not User.any_exists():
                db.session.merge(Metadata(name=UNFINISHED_IMPORT, value=digest))
                _reserve_ids(largest_ids)
            unfinished = db.session.get(Metadata, UNFINISHED_IMPORT)
            self.preserves_ids = unfinished is not None and unfinished.value == digest
            if self.preserves_ids and blog_id:
                set_blog_id(blog_id)
            for record in records:
                self._write_records([record])
            if self.preserves_ids:
                _ensure_owner()

    def _write_records(self, records: list[Record]) -> None:
        """Save those records, of one kind, that are valid and not in the blog."""
        new = []
        for record in records:
            with self.report.skipping(record.location):
                is_account = record.kind == "accounts"
                values = self._new_account(record) if is_account else self._new_values(record)
                if values and not self.preserves_ids:
                    values.pop("id", None)
                if values:
                    new.append((record, values))
        self._insert(new)

    def _insert(self, new: list[tuple[Record, Fields]]) -> None:
        """Save new rows of one kind, without those that the database rejects."""
        rows = [MODELS[record.kind](**values) for record, values in new]
        posts = [row for row in rows if isinstance(row, Post)]
        try:
            with db.session.begin_nested():
                db.session.add_all(rows)
                if posts:
                    Post.save(*posts)
        except REJECTED_ROW as error:
            if len(new) > 1:  # one by one, to find the bad row
                for single in new:
                    self._insert([single])
                return
            reason = str(error.orig).splitlines()[0]
            location = new[0][0].location
            self.report.skipped.append(f"{location}: the database refuses it: {reason}.")
            return
        for (record, _), row in zip(new, rows, strict=True):
            self.report.added[record.kind] += 1
            if isinstance(row, Post):
                self._index_post(record, row)
            if isinstance(row, User):
                self._index_account(row)

    def _index_post(self, record: Record, post: Post) -> None:
        self.post_ids[str(record.fields.get("id"))] = post.id
        if DESTINATION.search(post.body):
            self.linking.append(post.id)
        for address in record.addresses:
            self.paths.setdefault(_address_key(address), f"/posts/{post.id}/{post.slug}")

    def _lead_links(self) -> None:
        """Lead the links to old addresses of this import's posts to the new ones.

        Those to earlier posts already do so.
        """
        ids = iter(self.linking if self.paths else [])
        while chunk := list(islice(ids, CHUNK)):
            with atomic():
                query = sa.select(Post).where(Post.id.in_(chunk)).with_for_update(of=Post)
                changed = []
                for post in db.session.scalars(query):
                    body = self._with_new_links(post.body)
                    if body != post.body:
                        post.body = body
                        changed.append(post)
                if changed:
                    Post.save(*changed)

    def _with_new_links(self, body: str) -> str:
        # To find the code in a text takes longer than to see that no link is known.
        found = (_address_key(match[2]) for match in DESTINATION.finditer(body))
        if not any(key in self.paths for key in found):
            return body
        return sub_outside_code(DESTINATION, self._new_destination, body)

    def _new_destination(self, match: re.Match[str]) -> str:
        start, address, end = match.groups()
        path = self.paths.get(_address_key(address))
        if not path:
            return match[0]
        self.report.changed["links (to posts of this import)"] += 1
        path += "".join(address.partition("#")[1:])
        # An address in angle brackets is its own words, and cannot be a path.
        return f"[{address}]({path})" if start == "<" else f"{start}{path}{end}"

    def _index_account(self, user: User) -> None:
        self.account_ids[user.username.lower()] = user.id
        if user.password_hash == NO_PASSWORD and user.role == "member":
            self.commenter_ids.add(user.id)
            self.websites[user.id] = user.about

    def _new_account(self, record: Record) -> Fields | None:
        """The values of a new account; None if it is in the blog, or of an external user."""
        if record.author:
            self._external_account(record.author, record.location)
            return None
        fields = {"password_hash": NO_PASSWORD, "role": "member"} | record.fields
        values = column_values(User, fields, self.zone)
        username = values["username"]
        if not USERNAME.fullmatch(username):
            raise ValueError(f"“{username}” is no username")
        if values["role"] not in models.ROLES:
            raise ValueError(f"“{values['role']}” is no role")
        if username.lower() in self.account_ids:
            self.report.known["accounts"] += 1
            return None
        if values["role"] == "owner" and not self.preserves_ids:
            values["role"] = "author"  # a blog in use keeps its owner
        return values

    def _author_id(self, record: Record) -> int:
        """The id of the author's account; an external user gets one."""
        if record.author and not record.author.is_author and not self.account_ids:
            raise ValueError("its author, who wrote no post, would become the owner")
        name = record.author.name if record.author else str(record.fields.get("author") or "")
        if not name and record.author and not self.account_ids:
            raise NoOwnerError
        if not name:
            raise ValueError("it names no author")
        if record.author:
            return self._external_account(record.author, record.location)
        if name.lower() not in self.account_ids:
            raise ValueError(f"its author “{name}” has no account")
        return self.account_ids[name.lower()]

    def _external_account(self, user: ExternalUser, location: str) -> int:
        """The id of an external user's account: an existing one with the username, or a new one."""
        username = re.sub("[ .@]", "-", user.name)
        # The second candidate is for names that are taken, too long or in other letters. Its
        # checksum is the same in every import.
        letters = re.sub("[^A-Za-z0-9_-]", "", username)[:21]
        with_checksum = f"{letters}-{zlib.crc32(user.name.encode()):08x}"
        for candidate in (username, with_checksum):
            id = self.account_ids.get(candidate.lower())
            # A commenter gets no account with a password: anybody could have typed that name.
            if id and (user.is_author or id in self.commenter_ids):
                if user.website and user.website not in self.websites.get(id, ""):
                    self.report.leave_out(location, "websites of commenters (second ones)")
                return id
            is_reserved = candidate.lower() in forms.RESERVED_NAMES and not user.is_author
            is_reserved |= candidate.lower().startswith(models.DELETED_PREFIX)
            if not id and not is_reserved and USERNAME.fullmatch(candidate):
                return self._create_account(candidate, user, location)
        raise ValueError(f"no username is free for “{user.name[:40]}”")

    def _create_account(self, username: str, user: ExternalUser, location: str) -> int:
        """Add an account without a password; a commenter must not look like another user."""
        whole_name = " ".join(INVISIBLE.sub("", user.display_name or user.name).split())
        display_name = whole_name[: models.DISPLAY_NAME_MAX].rstrip()
        if display_name != whole_name:
            self.report.change(location, "names (shortened)")
        folded = display_name.lower()
        is_taken = folded in forms.RESERVED_NAMES or folded in self.account_ids
        if display_name == username or (is_taken and not user.is_author):
            display_name = ""
        if (display_name or username) not in whole_name:
            self.report.change(location, "names (taken or reserved, now with a number)")
        row = User.create(username, NO_PASSWORD, "post" if user.is_author else "comment")
        row.display_name = display_name
        # Shown on the commenter's page, as a link if it is one.
        row.about = user.website[:ABOUT_MAX]
        self.report.added["accounts"] += 1
        self._index_account(row)
        return row.id

    def _new_values(self, record: Record) -> Fields | None:
        """The values of a post, comment or picture; None if the blog already has it."""
        fields = record.fields | {"author_id": self._author_id(record)}
        if record.kind == "posts":
            fields["tags"], faults = clean_tags(fields["tags"])
            for fault in faults:
                self.report.leave_out(f"{record.location}, tag {fault}", "tags")
        if record.kind == "comments":
            fields["post_id"] = self.post_ids.get(str(fields.get("post_id") or ""))
            if not fields["post_id"]:
                raise ValueError("its post is not in this file")
        values = column_values(MODELS[record.kind], fields, self.zone)
        if record.kind == "posts" and record.author and not values["title"]:
            values["created_at"] = _moment_of_text(values["created_at"], values["body"])
        identity = [values[name] for name in IDENTITY[record.kind]]
        unmatched = self.unmatched[hash((record.kind, *identity))]
        if not unmatched and record.kind == "posts" and _is_undated(values):
            # Earlier releases gave all of them the same time.
            unmatched = self.unmatched[hash(("posts", values["author_id"], EPOCH, values["title"]))]
        if not unmatched:
            if record.kind == "posts" and self.paths:
                values["body"] = self._with_new_links(values["body"])
            return values
        # Each row matches one record: of two equal records, the second one may be new.
        key = unmatched.pop()
        if record.kind == "posts":
            self._index_post(record, Post(id=int(key), title=values["title"], body=values["body"]))
        self.report.known[record.kind] += 1
        return None


def _address_key(address: str) -> str:
    """What addresses that lead to the same page have in common."""
    key = unquote(address.partition("#")[0])
    return re.sub(r"^https?://(www\.)?", "//", key, flags=re.IGNORECASE).rstrip("/")


def _reserve_ids(largest_ids: dict[str, int]) -> None:
    """Give larger ids to new rows, which are written while the import goes on."""
    statements = [
        "DELETE FROM sqlite_sequence WHERE name = :table",  # it has no unique key to replace by
        "INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :id)",
    ]
    if db.engine.dialect.name == "postgresql":
        statements = ["SELECT setval(pg_get_serial_sequence(:table, 'id'), :id)"]
    for kind, id in largest_ids.items():
        for statement in statements:
            row = {"table": MODELS[kind].__tablename__, "id": id}
            db.session.execute(sa.text(statement), row)


def _moment_of_text(day: datetime, text: str) -> datetime:
    """A moment of the second, by which texts without titles of one day are told apart."""
    return day.replace(microsecond=day.microsecond or zlib.crc32(text.encode()) % 1_000_000)


def _is_undated(values: Fields) -> bool:
    created_at: datetime = values["created_at"]
    return EPOCH <= created_at < EPOCH + UNDATED


def _ensure_owner() -> None:
    """Give a blog that was made from the export of one user, who owned no blog, to that user."""
    if db.session.scalar(sa.select(sa.exists().where(User.role == "owner"))):
        return
    is_left = User.username.startswith(models.DELETED_PREFIX, autoescape=True)
    first = sa.select(User).where(User.banned_at.is_(None), ~is_left).order_by(User.id)
    if user := db.session.scalar(first):
        user.role = "owner"
