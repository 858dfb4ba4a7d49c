"""Reads a zip that the exporter of this release or an earlier one wrote, and checks any zip."""

import json
import re
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from uuid import UUID
from zipfile import ZipFile

from core.images import BYTES_MAX
from core.rendering import normalize_text
from extras.pictures import PATH
from models import DELETED_PREFIX
from porting import own_post
from porting.front_matter import split
from porting.records import TEXT_MAX, Fields, Progress, Record, Report, no_progress

ZIP_MAX = 2 * 1024**3  # bytes of the unpacked members; 20,000 pictures
POST_PATH = re.compile(r"posts/[^/]+\.md")
BLOG_FILE = "blog.json"
JSON_LINES = {"accounts.jsonl", "comments.jsonl", "pictures.jsonl"}  # one record a line


def check(archive: ZipFile) -> None:
    """ValueError, with a sentence, if the zip is malicious or damaged."""
    for info in archive.infolist():
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"The zip's member {info.filename!r} leads out of it.")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ValueError(f"The zip's member {info.filename!r} is a link.")
    # A false size cannot hide more: `zipfile` reads no further than that, and the checksum fails.
    if sum(info.file_size for info in archive.infolist()) > ZIP_MAX:
        raise ValueError("The zip holds more than 2 GiB.")
    if name := archive.testzip():
        raise ValueError(f"This file is damaged at {name}.")


def is_own(archive: ZipFile) -> bool:
    """Whether `flask export` made the zip, or a user downloaded it."""
    return set(archive.namelist()) >= JSON_LINES


def blog_id(archive: ZipFile) -> UUID | None:
    """The id of the blog; None in exports of one user, and of earlier releases."""
    if BLOG_FILE not in archive.namelist():
        return None
    try:
        return UUID(json.loads(_read_member(archive, BLOG_FILE, TEXT_MAX))["id"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"The zip's {BLOG_FILE} has no id of a blog.") from error


def largest_ids(archive: ZipFile) -> dict[str, int]:
    """The largest id of accounts, posts and comments, where there are any."""
    ids = {"posts": re.findall(r"posts/(\d+)-", " ".join(archive.namelist()))}
    for kind in ("accounts", "comments"):
        lines = _lines(archive, kind, Report(), no_progress)
        ids[kind] = [str(record.fields.get("id")) for record in lines]
    largest = {}
    for kind, texts in ids.items():
        # Longer ids are in no URL.
        numbers = [int(text) for text in texts if re.fullmatch("[1-9][0-9]{0,8}", text)]
        if numbers:
            largest[kind] = max(numbers)
    return largest


def records(archive: ZipFile, report: Report, progress: Progress) -> Iterator[Record]:
    """The accounts, then the posts, comments and pictures."""
    yield from _lines(archive, "accounts", report, progress)
    names = [name for name in archive.namelist() if POST_PATH.fullmatch(name)]
    for name in progress(names, "posts", len(names)):
        with report.skipping(name):
            content = _read_member(archive, name, TEXT_MAX)
            fields = own_post.parse(*split(normalize_text(content.decode())))
            # Earlier releases made drafts of banned users' posts, and stored the time here.
            fields["published_at"] = fields.get("withheld_at") or fields["published_at"]
            yield Record(name, "posts", fields)
    yield from _lines(archive, "comments", report, progress)
    yield from _lines(archive, "pictures", report, progress)


def _lines(archive: ZipFile, kind: str, report: Report, progress: Progress) -> Iterator[Record]:
    """The records of a file of JSON lines."""
    name = f"{kind}.jsonl"
    with archive.open(name) as file:
        count = sum(1 for _ in file)
        file.seek(0)
        lines = iter(partial(file.readline, TEXT_MAX), b"")
        for number, line in enumerate(progress(lines, kind, count), start=1):
            location = f"{name}, line {number}"
            with report.skipping(location):
                yield Record(location, kind, _parse_line(archive, kind, line))


def _parse_line(archive: ZipFile, kind: str, line: bytes) -> Fields:
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("it is no JSON object")
    if kind == "accounts" and str(fields.get("username")).startswith(DELETED_PREFIX):
        fields["banned_at"] = None  # earlier releases banned deleted accounts
    if kind == "comments":
        # Earlier releases called pending comments "waiting", and had the state "banned".
        is_pending = fields.get("state") in ("pending", "waiting")
        fields["state"] = "pending" if is_pending else "shown"
    if kind == "pictures":
        fields["webp"] = _read_picture(archive, str(fields.get("name")))
    return fields


def _read_picture(archive: ZipFile, name: str) -> bytes:
    if not re.fullmatch(PATH, f"/pictures/{name}"):
        raise ValueError(f"“{name[:60]}” is no picture's name")
    webp = _read_member(archive, f"pictures/{name}", BYTES_MAX)
    # A WebP file begins with "RIFF", its size in four bytes, and "WEBP".
    if webp[:4] + webp[8:12] != b"RIFFWEBP":
        raise ValueError(f"{name} is no WebP")
    return webp


def _read_member(archive: ZipFile, name: str, bytes_max: int) -> bytes:
    if name not in archive.NameToInfo:
        raise ValueError(f"{name} is missing")
    if archive.getinfo(name).file_size > bytes_max:
        raise ValueError(f"{name} has more than {bytes_max:,} bytes")
    return archive.read(name)
