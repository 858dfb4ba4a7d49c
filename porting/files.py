"""The files of a folder or of a zip, and which of them a text means."""

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote
from zipfile import ZipFile, ZipInfo

from porting.records import Report

# Folders of programs, which no author writes in; so are those whose names begin with a dot.
IGNORED_FOLDERS = {"node_modules", "_site", "__MACOSX"}
ZIP_EPOCH = 1980  # the year in a zip whose program wrote no time


@dataclass
class SourceFile:
    """A file of a folder or a zip."""

    path: PurePosixPath  # in the folder or zip
    modified_at: str  # ISO 8601; of a zip without a zone, or empty
    open: Callable[[], IO[bytes]]

    def read(self, bytes_max: int) -> bytes:
        """Its first bytes."""
        with self.open() as file:
            return file.read(bytes_max)


def in_folder(folder: Path, report: Report) -> list[SourceFile]:
    """The files in a folder and its subfolders; of a file, only that. Links lead nowhere else."""
    paths = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
    root = folder if folder.is_dir() else folder.parent
    return [
        _on_disk(path, PurePosixPath(path.relative_to(root).as_posix()))
        for path in paths
        if path.is_file()
        and not _is_ignored(path.relative_to(root).parts)
        and not _leads_out(path, root, report)
    ]


def in_zip(archive: ZipFile) -> list[SourceFile]:
    """The files in a zip."""
    members = sorted(archive.infolist(), key=lambda member: member.filename)
    return [
        _in_zip(archive, member)
        for member in members
        if not member.is_dir() and not _is_ignored(PurePosixPath(member.filename).parts)
    ]


def _leads_out(path: Path, root: Path, report: Report) -> bool:
    """Whether it is a link to a file elsewhere, which an author did not mean to publish."""
    if path.resolve().is_relative_to(root.resolve()):
        return False
    report.leave_out(str(path.relative_to(root)), "links to files outside of the folder")
    return True


def _is_ignored(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part in IGNORED_FOLDERS for part in parts)


def _on_disk(path: Path, name: PurePosixPath) -> SourceFile:
    modified_at = datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()
    return SourceFile(name, modified_at, lambda: path.open("rb"))


def _in_zip(archive: ZipFile, member: ZipInfo) -> SourceFile:
    year, month, day, hour, minute, second = member.date_time
    modified_at = f"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    modified_at = modified_at if year > ZIP_EPOCH else ""
    return SourceFile(PurePosixPath(member.filename), modified_at, lambda: archive.open(member))


class Files:
    """The files of an import, found by what a text calls them."""

    def __init__(self, files: list[SourceFile]) -> None:
        self.by_path = {str(file.path): file for file in files}
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for file in files:
            self.by_name[file.path.name].append(str(file.path))

    def __iter__(self) -> Iterator[SourceFile]:
        return iter(self.by_path.values())

    def linked(self, address: str, source: PurePosixPath) -> SourceFile | None:
        """The file that a link in the file `source` leads to, by its path, absolute or relative."""
        path = unquote(address.partition("#")[0].partition("?")[0])
        if path.startswith("/"):
            # It may begin in a folder such as static/ or content/.
            return self._ending_in(path)
        return self.by_path.get(posixpath.normpath(posixpath.join(source.parent, path)))

    def named(self, name: str, source: PurePosixPath) -> SourceFile | None:
        """The post that a template tag means, by its path or its name, with or without ending."""
        path = unquote(name.partition("#")[0]).strip("/")
        for candidate in (path, f"{path}.md", f"{path}.markdown", f"{path}/index.md"):
            if found := self.linked(candidate, source) or self._ending_in(candidate):
                return found
        return None

    def _ending_in(self, path: str) -> SourceFile | None:
        """The first file whose path ends in these folders and this name."""
        path = posixpath.normpath(f"/{path}").lstrip("/")
        paths = self.by_name.get(posixpath.basename(path), [])
        found = next((other for other in paths if f"/{other}".endswith(f"/{path}")), None)
        return self.by_path[found] if found else None
