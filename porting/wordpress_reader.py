"""Reads a WordPress export: RSS with additional elements of WordPress (WXR)."""

import html
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser

from markdownify import markdownify

from core.pagination import NEVER
from forms import POST_MAX
from porting.records import (
    ExternalUser,
    Parsed,
    Problem,
    Progress,
    Record,
    no_progress,
    record_or_problem,
)

CHUNK = 1024 * 1024  # bytes that are parsed at once, a step of the progress bar
STATUSES = {"publish", "future", "draft", "pending", "private"}  # of the posts that are imported
COMMENT_STATES = {"1": "shown", "0": "pending"}  # by "approved"; others are spam or trash
HTML_MAX = 4 * POST_MAX  # characters of HTML that become Markdown
BLOCK_TAG = r"</?(?:blockquote|div|h\d|li|ol|p|pre|t[dhr]|table|tbody|thead|ul)\b"
# WordPress shows line ends, except before block elements, in tags and in <pre>. The last
# alternative matches them; the others skip what has to stay as it is.
LINE_END = re.compile(rf"(?is)<pre\b.*?</pre>|<[^>]*>|\n(?!\s{{0,9}}{BLOCK_TAG})")
Texts = defaultdict[str, str]  # of the elements in an element, by tag; "" for what it lacks
Users = dict[str, ExternalUser]  # by their ids in WordPress


class Entry(NamedTuple):
    """An author or an item of the export; items are posts, pages, attachments and others."""

    location: str
    texts: Texts
    comments: list[Texts]


def check(path: Path) -> None:
    """ValueError, with a sentence, or ParseError if this is no WordPress export."""
    for _ in _entries(path, no_progress):
        pass


def records(path: Path, author: str, progress: Progress) -> Iterator[Parsed]:
    """The authors, and the posts with their comments, in the order of the file.

    `author` is for posts that name no author.
    """
    users: Users = {}
    for entry in _entries(path, progress):
        location, texts, _ = entry
        if texts["author_login"]:
            user = ExternalUser(texts["author_login"], texts["author_display_name"])
            users[texts["author_id"]] = user
            yield Record(location, "accounts", {}, user)
        elif texts["post_type"] == "attachment":
            yield Problem(location, f"{texts['attachment_url']} was not fetched", "not fetched")
        else:
            yield from _post_and_comments(entry, author, users)


def _post_and_comments(entry: Entry, author: str, users: Users) -> Iterator[Parsed]:
    parse_post = partial(_post, entry.location, entry.texts, author)
    post = record_or_problem(entry.location, parse_post)
    yield post
    for number, texts in enumerate(entry.comments, start=1):
        location = f"{entry.location}, comment {number}"
        if isinstance(post, Problem):
            yield Problem(location, "comments (without a post)", "unsupported")
        else:
            parse_comment = partial(_comment, location, texts, post.id, users)
            yield record_or_problem(location, parse_comment)


def _entries(path: Path, progress: Progress) -> Iterator[Entry]:
    """The authors and items of the file, parsed step by step: a whole export may be large."""
    builder = _Builder()
    parser = XMLParser(target=builder)
    numbers = Counter[str]()
    steps = range(0, path.stat().st_size, CHUNK)
    with path.open("rb") as file:
        for _ in progress(steps, "MiB", len(steps)):
            parser.feed(file.read(CHUNK))
            for element in builder.complete:
                tag, texts = _local_name(element), _texts(element)
                numbers[tag] += 1
                title = texts["title"] or texts["author_login"]
                location = f"{tag} {numbers[tag]} (“{title[:40]}”)"
                comments = [_texts(comment) for comment in element.iterfind("{*}comment")]
                yield Entry(location, texts, comments)
                element.clear()  # to free its memory
            builder.complete.clear()
    if parser.close().find("channel/{*}wxr_version") is None:
        raise ValueError("This is neither a zip nor a WordPress export.")


class _Builder(TreeBuilder):
    """Collects complete authors and items. Refuses a DOCTYPE, whose entities may grow endlessly."""

    def __init__(self) -> None:
        super().__init__()
        self.complete: list[Element] = []

    def doctype(self, *_names: str | None) -> None:
        """Refuse it."""
        raise ValueError("It has a DOCTYPE, which no WordPress export has.")

    def end(self, tag: str) -> Element:
        """Collect the element that ends here."""
        element = super().end(tag)
        if _local_name(element) in ("author", "item"):
            self.complete.append(element)
        return element


def _local_name(element: Element) -> str:
    """The tag without its namespace."""
    return element.tag.rpartition("}")[2]


def _texts(element: Element) -> Texts:
    """The texts of the elements in an element; "tags" has its categories and tags, one a line."""
    tags = [part.text or "" for part in element if part.get("domain") in ("category", "post_tag")]
    # Reversed, so that the first of equal names stays: the text of a post comes before its excerpt.
    texts = {_local_name(part): part.text or "" for part in reversed(element)}
    return Texts(str, texts, tags="\n".join(map(html.unescape, tags)))


def _post(location: str, texts: Texts, author: str) -> Parsed:
    """The post in an item; one that visitors could not read becomes a draft."""
    post_type, status = texts["post_type"], texts["status"]
    if post_type != "post":
        return Problem(location, f"of type {post_type}", "unsupported")
    if status not in STATUSES:
        return Problem(location, f"in state {status}", "unsupported")
    is_public = status in ("publish", "future") and not texts["post_password"]
    date = _date(texts, "post_date")
    fields = {
        "title": html.unescape(texts["title"] or texts["post_name"]),
        "body": _markdown(texts["encoded"]),
        "tags": texts["tags"].splitlines(),
        "created_at": date,
        "published_at": date if is_public else NEVER,
        "comments_closed": texts["comment_status"] == "closed",
    }
    return Record(location, "posts", fields, ExternalUser(texts["creator"] or author), location)


def _comment(location: str, texts: Texts, post_id: str, users: Users) -> Parsed:
    """A comment; one that WordPress has not approved yet is pending."""
    comment_type, approved = texts["comment_type"] or "comment", texts["comment_approved"]
    if comment_type != "comment":
        return Problem(location, f"comments ({comment_type})", "unsupported")
    if approved not in COMMENT_STATES:
        return Problem(location, f"comments ({approved})", "unsupported")
    fields = {
        "post_id": post_id,
        "body": _markdown(texts["comment_content"]),
        "created_at": _date(texts, "comment_date"),
        "state": COMMENT_STATES[approved],
    }
    commenter = ExternalUser(html.unescape(texts["comment_author"]), is_author=False)
    # WordPress's user id 0 means that nobody was logged in.
    author = users.get(texts["comment_user_id"] or "0", commenter)
    return Record(location, "comments", fields, author)


def _date(texts: Texts, name: str) -> str:
    """A date in UTC if WordPress has it, as it has not for drafts; else without a zone."""
    in_utc = texts[f"{name}_gmt"]
    if in_utc[:4] in ("", "0000"):
        return texts[name]
    return f"{in_utc}Z"


def _markdown(text: str) -> str:
    """Markdown from HTML in which line ends may count, as WordPress's editor allowed."""
    if len(text) > HTML_MAX:
        raise ValueError(f"its text has more than {HTML_MAX:,} characters")
    has_paragraphs = re.search(r"<p\b|<!-- wp:", text)
    if not has_paragraphs:
        text = LINE_END.sub(_break_line, text.strip())
    text = markdownify(f"<div>{text}</div>", heading_style="ATX", bullets="-")
    # Several line breaks in a row are the end of a paragraph.
    return re.sub(r"( +\n){2,}", "\n\n", text).strip()


def _break_line(match: re.Match[str]) -> str:
    return "<br>\n" if match[0] == "\n" else match[0]
