"""Adds the contents of a file: our own export, a WordPress export, or a folder of Markdown files.

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
from models import User
from porting import markdown_reader, wordpress_reader, zip_reader
from porting.records import Progress, Report, no_progress
from porting.writer import Writer

# What the readers raise for a damaged file.
DAMAGED = (ParseError, BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError)


def load(path: Path, zone: tzinfo, author: str = "", progress: Progress = no_progress) -> Report:
    """Add what the file or folder has and the blog has not; a repeat continues where one ended.

    Times without a zone are in `zone`. Posts that name no author belong to `author`, by default the
    owner. If the blog is empty, ids and roles of our own export are preserved. ValueError, with a
    sentence, for a file that is damaged or of an unknown format: nothing is written then.
    """
    owners = sa.select(User.username).where(User.role == "owner").order_by(User.id)
    author = author or db.session.scalar(owners) or ""
    writer = Writer(zone)
    try:
        if path.is_dir():
            writer.write(markdown_reader.records(path, author, writer.report, progress))
        elif is_zipfile(path):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            with ZipFile(path) as archive:
                zip_reader.check(archive)
                records = zip_reader.records(archive, writer.report, progress)
                writer.write(records, digest, zip_reader.largest_ids(archive))
        else:
            uploads = wordpress_reader.check(path)
            records = wordpress_reader.records(path, uploads, author, writer.report, progress)
            writer.write(records)
    except DAMAGED as error:
        raise ValueError(f"This file is damaged, or no zip and no whole XML: {error}.") from error
    return writer.report
