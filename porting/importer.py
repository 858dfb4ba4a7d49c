"""Adds the contents of a file: our own export, one of WordPress, or Markdown files.

A reader for each format yields records and asks no database; one writer checks and saves them.
"""

import hashlib
import struct
import zlib
from datetime import tzinfo
from pathlib import Path
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile, ZipFile, is_zipfile

import sqlalchemy as sa

from core.database import db
from forms import RESERVED_NAMES
from models import DELETED_PREFIX, User
from porting import files, markdown_reader, wordpress_reader, zip_reader
from porting.post_fields import FILE_NAME
from porting.records import Progress, Report, no_progress
from porting.writer import USERNAME, NoOwnerError, Writer

# What the readers raise for a damaged file.
DAMAGED = (ParseError, BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError)
KINDS = "what `flask export` makes, exports of WordPress, and folders and zips of Markdown files"
START = 1024  # bytes in which a file shows that it is JSON; it may begin with white space
NO_OWNER = (
    "These posts name no author, and nobody has an account here. Sign up first, or name the owner:"
    " flask import --owner NAME FILE."
)


def load(
    path: Path,
    zone: tzinfo,
    author: str = "",
    progress: Progress = no_progress,
    owner: str = "",
) -> Report:
    """Add what the file or folder has and the blog has not; a repeat continues where one ended.

    Times without a zone are in `zone`. Posts that name no author belong to `author`, by default the
    owner. An empty blog becomes that of `owner`, by default of the first author; ids and roles of
    our own export are preserved there. ValueError, with a sentence, for a file that is damaged or
    of an unknown format: nothing is written then.
    """
    author = author or _owner(owner)
    writer = Writer(zone, owner)
    try:
        if path.is_dir() or FILE_NAME.fullmatch(path.name):
            _load_markdown(files.in_folder(path, writer.report), author, writer, progress)
        elif is_zipfile(path):
            _load_zip(path, author, writer, progress)
        else:
            _refuse_json(path)
            uploads = wordpress_reader.check(path)
            records = wordpress_reader.records(path, uploads, author, writer.report, progress)
            writer.write(records)
    except DAMAGED as error:
        raise ValueError(f"This file is damaged, or no zip and no whole XML: {error}.") from error
    except NoOwnerError as error:
        raise ValueError(NO_OWNER) from error
    return writer.report


def _load_zip(path: Path, author: str, writer: Writer, progress: Progress) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with ZipFile(path) as archive:
        zip_reader.check(archive)
        if not zip_reader.is_own(archive):
            members = files.in_zip(archive)
            if not any(FILE_NAME.fullmatch(member.path.name) for member in members):
                raise ValueError(f"This zip is none that flask import reads. It reads {KINDS}.")
            _load_markdown(members, author, writer, progress)
            return
        if writer.owner:
            raise ValueError("This export brings its accounts with it: leave --owner out.")
        largest_ids, blog_id = zip_reader.largest_ids(archive), zip_reader.blog_id(archive)
        records = zip_reader.records(archive, writer.report, progress)
        writer.write(records, digest, largest_ids, blog_id)


def _load_markdown(
    members: list[files.SourceFile], author: str, writer: Writer, progress: Progress
) -> None:
    found = files.Files(members)
    writer.write(markdown_reader.records(found, author, writer.report, progress))


def _owner(name: str) -> str:
    """The owner's name, or that of who is to become it; ValueError if it cannot be that name."""
    owners = sa.select(User.username).where(User.role == "owner").order_by(User.id)
    current = db.session.scalar(owners) or ""
    if not name:
        return current
    if User.any_exists() and current.lower() != name.lower():
        raise ValueError(f"This blog is {current}'s: leave --owner out. There is also --author.")
    is_reserved = name.lower() in RESERVED_NAMES or name.lower().startswith(DELETED_PREFIX)
    if not USERNAME.fullmatch(name) or is_reserved:
        raise ValueError(f"“{name}” is no username.")
    return name


def _refuse_json(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(START).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"{", b"[")):
        sentence = "The command flask import does not read JSON of this kind; it reads"
        raise ValueError(f"{sentence} {KINDS}.")
