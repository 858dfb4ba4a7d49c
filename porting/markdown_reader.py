"""Reads Markdown files of a folder or a zip, as Hugo, Jekyll, Zola, Hexo and Obsidian have them."""

import re
from collections.abc import Iterator
from html import unescape
from io import BytesIO
from pathlib import PurePosixPath

from core.images import BYTES_MAX, to_webp
from core.pagination import EPOCH
from core.rendering import normalize_text
from extras.pictures import PATH, Picture, markdown_image
from porting import own_post, post_fields
from porting.files import Files, SourceFile
from porting.front_matter import split
from porting.post_fields import FILE_NAME, address_of
from porting.records import TEXT_MAX, ExternalUser, Fields, Progress, Record, Report
from porting.template_tags import count_outside_code, sub_outside_code, to_markdown

# Endings of other files that people write texts in.
OTHER_TEXTS = set(
    ".adoc .asciidoc .docx .htm .html .ipynb .mdown .mdx .mkd .odt .org .pdf .qmd .rmd .rst .rtf"
    " .tex .textile .txt".split()
)
PICTURES = {".avif", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".svg", ".tif", ".tiff", ".webp"}
# The destination of a link or a picture, in the text or below it.
DESTINATION = re.compile(
    r"(\]\([ \t]{0,9}<?|^ {0,3}\[[^\[\]\n]+\]:[ \t]{0,9}<?)([^\s<>()]+)", re.MULTILINE
)
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//|#")
# In the text, or below it.
HTTP_PICTURE = re.compile(
    r"(!\[[^\[\]]*\]\([ \t]{0,9}<?"
    r"|^ {0,3}\[[^\[\]\n]+\]:[ \t]{0,9}<?(?=\S{1,1000}\.(?:avif|gif|jpe?g|png|svg|webp)\b))http://",
    re.IGNORECASE | re.MULTILINE,
)
WIKI_LINK = re.compile(
    r"(!?)\[\[([^\s\[\]|#][^\[\]|#\n]*)(#[^\[\]|\n]*)?(?:\|([^\[\]\n]*))?\]\](?!\()"
)
HTML_PICTURE = re.compile(r"<img\s[^<>]*>", re.IGNORECASE)
HTML_ATTRIBUTE = re.compile(
    r"""\b(src|alt)=(?:"([^"]*)"|'([^']*)'|([^\s"'<>]+?)(?=\s|/?>))""", re.IGNORECASE
)
HTML_TAG = re.compile(r"<[a-z][a-z0-9-]*(?:\s[^<>]*)?/?>", re.IGNORECASE)
NO_AUTHOR = 0  # of a picture's name; a reader knows no ids of authors


def records(files: Files, author: str, report: Report, progress: Progress) -> Iterator[Record]:
    """The posts and the pictures in them; `author` is for those that name no author."""
    for file in files:
        ending = file.path.suffix.lower()
        if ending in OTHER_TEXTS:
            report.leave_out(str(file.path), f"files ending in {ending}")
    posts = [file for file in files if FILE_NAME.fullmatch(file.path.name)]
    reader = _Reader(files, report)
    for file in progress(posts, "files", len(posts)):
        with report.skipping(str(file.path)):
            yield from reader.records(file, author)


class _Reader:
    """The files, and the pictures that were taken from them."""

    def __init__(self, files: Files, report: Report) -> None:
        self.files, self.report = files, report
        self.taken: dict[PurePosixPath, str] = {}  # the new addresses of pictures
        self.pictures: list[Fields] = []  # those that no record has yet

    def records(self, file: SourceFile, author: str) -> Iterator[Record]:
        """The post in a file, and the pictures in it that no post before had."""
        location = str(file.path)
        content = file.read(TEXT_MAX + 1)
        if len(content) > TEXT_MAX:
            raise ValueError(f"it has more than {TEXT_MAX:,} bytes")
        front_matter, body = split(normalize_text(content.decode()))
        if own_post.is_own(front_matter):
            fields = own_post.parse(front_matter, body)
            fields["body"] = self._with_new_addresses(file, fields["body"])
        elif file.path.stem == "_index":  # describes a list, in Hugo and Zola
            if body.strip():
                self.report.leave_out(location, "texts above lists (in _index.md)")
            return
        else:
            fields = post_fields.parse(file, front_matter, body, self.report)
            fields["body"] = self._as_markdown(file, fields["body"])
        names = fields.get("authors") or post_fields.texts(fields.get("author")) or [author]
        if len(names) > 1:
            self.report.leave_out(location, "further authors (a post has one)", len(names) - 1)
        user, addresses = ExternalUser(names[0]), post_fields.addresses(file, front_matter)
        # An id of another blog means nothing in this one.
        yield Record(location, "posts", fields | {"id": None}, user, addresses)
        for fields in self.pictures:
            yield Record(location, "pictures", fields, user)
        self.pictures = []

    def _as_markdown(self, file: SourceFile, body: str) -> str:
        """The text without what only other programs understand."""
        location = str(file.path)
        body = to_markdown(body, location, self.report, lambda name: self._named(file, name))
        body = sub_outside_code(WIKI_LINK, lambda match: self._wiki_link(file, match), body)
        body = sub_outside_code(HTML_PICTURE, _html_picture, body)
        body = self._with_new_addresses(file, body)
        if count := count_outside_code(HTML_TAG, body):
            self.report.change(location, "tags of HTML (now text)", count)
        return body

    def _with_new_addresses(self, file: SourceFile, body: str) -> str:
        """The text, in which the addresses of files are those that they get here."""

        def https(match: re.Match[str]) -> str:
            self.report.change(str(file.path), "picture addresses (http to https)")
            return f"{match[1]}https://"

        body = sub_outside_code(HTTP_PICTURE, https, body)
        return sub_outside_code(
            DESTINATION, lambda match: match[1] + self._new_address(file, match[2]), body
        )

    def _new_address(self, file: SourceFile, address: str) -> str:
        if ABSOLUTE.match(address):
            return address
        found = self.files.linked(address, file.path)
        path, mark, fragment = address.partition("#")
        if found and FILE_NAME.fullmatch(found.path.name):
            return f"{address_of(found)}{mark}{fragment}"
        if PurePosixPath(path.partition("?")[0]).suffix.lower() in PICTURES:
            if found:
                return self._take(found) or address
            if not re.fullmatch(PATH, path):
                self.report.leave_out(str(file.path), "pictures (not among the files)")
        elif found:
            self.report.leave_out(str(file.path), "linked files (no pictures)")
        return address

    def _take(self, file: SourceFile) -> str:
        """The address here of a picture; "" if it cannot be taken."""
        if file.path not in self.taken:
            self.taken[file.path] = ""
            try:
                webp, size = to_webp(BytesIO(file.read(BYTES_MAX + 1)))
            except ValueError as error:
                self.report.leave_out(str(file.path), "pictures (cannot be taken)")
                self.report.details.append(f"{file.path}: {error}")
                return ""
            name = Picture.of(NO_AUTHOR, webp, size).name
            created_at = file.modified_at or EPOCH
            self.pictures.append({"name": name, "webp": webp, "created_at": created_at})
            self.taken[file.path] = f"/pictures/{name}"
        return self.taken[file.path]

    def _named(self, file: SourceFile, name: str) -> str:
        """The address of the file that a template tag names."""
        found = self.files.named(name, file.path)
        if not found:
            self.report.change(str(file.path), "links (to files that are missing)")
            return name
        _, mark, fragment = name.partition("#")
        return f"{address_of(found)}{mark}{fragment}"

    def _wiki_link(self, file: SourceFile, match: re.Match[str]) -> str:
        """Obsidian's `[[note|words]]` and `![[picture.png]]`, if there is such a file."""
        found = self.files.named(match[2], file.path)
        if not found:
            self.report.change(str(file.path), "wiki links (now text)")
            return match[0]
        words = match[4] or ""
        if match[1] and found.path.suffix.lower() in PICTURES:
            description = "" if words.isdigit() else words
            return markdown_image(description, f"/{found.path}")
        return f"[{words or match[2]}]({address_of(found)})"


def _html_picture(match: re.Match[str]) -> str:
    """An `<img>` in Markdown."""
    found = HTML_ATTRIBUTE.findall(match[0])
    values = {name.lower(): unescape("".join(texts)) for name, *texts in found}
    source = values.get("src")
    return markdown_image(values.get("alt", ""), source) if source else match[0]
