"""A zip that the exporter wrote, of this release or an earlier one. It asks no database."""

import json
import re
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from zipfile import ZipFile

from core.pagination import parse_id
from extras.pictures import BYTES_MAX, PATH
from models import DELETED_PREFIX
from porting import markdown_reader
from porting.records import TEXT_MAX, Problem, Progress, Record, read

ZIP_MAX = 2 * 1024**3  # bytes of all that a zip holds; as many as 20,000 pictures
POST = re.compile(r"posts/[^/]+\.md")
LINES = ("accounts", "comments", "pictures")  # one record a line


def check(archive: ZipFile) -> None:
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
    if not {f"{noun}.jsonl" for noun in LINES} <= set(archive.namelist()):
        raise ValueError("This zip is none that `flask export` made.")
    if name := archive.testzip():
        raise ValueError(f"This file is damaged at {name}.")


def largest_ids(archive: ZipFile) -> dict[str, int]:
    """The largest id of each kind of record, 0 where there is none."""
    found = {}
    for noun in ("accounts", "comments"):
        ids = [record.id for record in _lines(archive, noun) if isinstance(record, Record)]
        found[noun] = max(map(_id, ids), default=0)
    names = [re.match(r"posts/(\d+)-", name) for name in archive.namelist()]
    found["posts"] = max((_id(name[1]) for name in names if name), default=0)
    return found


def _id(text: str) -> int:
    try:
        return parse_id(text)
    except ValueError:
        return 0


def records(archive: ZipFile, progress: Progress) -> Iterator[Record | Problem]:
    """Every account, post, comment and picture, in this order."""
    yield from _tracked_lines(archive, "accounts", progress)
    names = [name for name in archive.namelist() if POST.fullmatch(name)]
    for name in progress(names, "posts", len(names)):
        yield read(name, partial(_post, archive, name))
    yield from _tracked_lines(archive, "comments", progress)
    yield from _tracked_lines(archive, "pictures", progress)


def _tracked_lines(archive: ZipFile, noun: str, progress: Progress) -> Iterator[Record | Problem]:
    with archive.open(f"{noun}.jsonl") as file:
        count = sum(1 for _ in file)
    yield from progress(_lines(archive, noun), noun, count)


def _lines(archive: ZipFile, noun: str) -> Iterator[Record | Problem]:
    name = f"{noun}.jsonl"
    with archive.open(name) as file:
        lines = iter(partial(file.readline, TEXT_MAX), b"")
        for number, line in enumerate(lines, start=1):
            place = f"{name}, line {number}"
            yield read(place, partial(_line, archive, noun, place, line))


def _line(archive: ZipFile, noun: str, place: str, line: bytes) -> Record:
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("it is no JSON object")
    if noun == "accounts" and str(fields.get("username")).startswith(DELETED_PREFIX):
        fields["banned_at"] = None  # earlier releases banned deleted accounts
    if noun == "comments":
        # Earlier releases called pending comments waiting.
        is_pending = fields.get("state") in ("pending", "waiting")
        fields["state"] = "pending" if is_pending else "shown"
    if noun == "pictures":
        fields["webp"] = _picture(archive, str(fields.get("name")))
    return Record(place, noun, fields, str(fields.get("author")), str(fields.get("id")))


def _post(archive: ZipFile, name: str) -> Record:
    fields = markdown_reader.post(PurePosixPath(name), _member(archive, name, TEXT_MAX))
    # Earlier releases made drafts of what banned people had published.
    fields["published_at"] = fields.get("withheld_at") or fields["published_at"]
    return Record(name, "posts", fields, str(fields.get("author")), str(fields.get("id")))


def _picture(archive: ZipFile, name: str) -> bytes:
    if not re.fullmatch(PATH, f"/pictures/{name}"):
        raise ValueError(f"“{name[:60]}” is no picture's name")
    webp = _member(archive, f"pictures/{name}", BYTES_MAX)
    if webp[:4] + webp[8:12] != b"RIFFWEBP":
        raise ValueError(f"{name} is no WebP")
    return webp


def _member(archive: ZipFile, name: str, length: int) -> bytes:
    if name not in archive.NameToInfo:
        raise ValueError(f"{name} is missing")
    if archive.getinfo(name).file_size > length:
        raise ValueError(f"{name} has more than {length:,} bytes")
    return archive.read(name)
