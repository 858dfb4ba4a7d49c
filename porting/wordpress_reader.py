"""Reads a WordPress export: RSS with additional elements of WordPress (WXR)."""

import html
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser

from markdownify import markdownify

from core.pagination import NEVER
from forms import POST_MAX
from porting.records import ExternalUser, Progress, Record, Report, UnsupportedError, no_progress

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


def check(path: Path) -> None:
    """ValueError, with a sentence, or ParseError if this is no WordPress export."""
    for _ in _entries(path, no_progress):
        pass


def records(path: Path, author: str, report: Report, progress: Progress) -> Iterator[Record]:
    """The authors, and the posts with their comments; `author` is for posts that name none."""
    users: Users = {}
    for location, texts, comments in _entries(path, progress):
        if texts["author_login"]:
            user = ExternalUser(texts["author_login"], texts["author_display_name"])
            users[texts["author_id"]] = user
            yield Record(location, "accounts", {}, user)
            continue
        if texts["post_type"] == "attachment":
            report.not_fetched.append(f"{location}: {texts['attachment_url']} was not fetched.")
            continue
        post = None
        with report.skipping(location):
            post = _post(location, texts, author)
            yield post
        for number, comment in enumerate(comments, start=1):
            location_of_comment = f"{location}, comment {number}"
            with report.skipping(location_of_comment):
                yield _comment(location_of_comment, comment, post, users)


def _entries(path: Path, progress: Progress) -> Iterator[tuple[str, Texts, list[Texts]]]:
    """The location, texts and comments of each author and item, a part of the file at a time."""
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
                texts["number"] = str(numbers[tag])
                location = f"{tag} {numbers[tag]} (“{title[:40]}”)"
                yield location, texts, [_texts(part) for part in element.iterfind("{*}comment")]
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
        raise ValueError("It has a DOCTYPE, which no WordPress export has.")

    def end(self, tag: str) -> Element:
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


def _post(location: str, texts: Texts, author: str) -> Record:
    """The post in an item; one that visitors could not read becomes a draft."""
    if texts["post_type"] != "post":
        raise UnsupportedError(f"of type {texts['post_type']}")
    status = texts["status"]
    if status not in STATUSES:
        raise UnsupportedError(f"in state {status}")
    is_public = status in ("publish", "future") and not texts["post_password"]
    date = _date(texts, "post_date")
    fields = {
        "id": texts["number"],
        "title": html.unescape(texts["title"] or texts["post_name"]),
        "body": _markdown(texts["encoded"]),
        "tags": texts["tags"].splitlines(),
        "created_at": date,
        "published_at": date if is_public else NEVER,
        "comments_closed": texts["comment_status"] == "closed",
    }
    # The second one is short, and leads to the first.
    addresses = [texts["link"], texts["guid"]]
    return Record(location, "posts", fields, ExternalUser(texts["creator"] or author), addresses)


def _comment(location: str, texts: Texts, post: Record | None, users: Users) -> Record:
    """A comment; one that WordPress has not approved yet is pending."""
    if not post:
        raise UnsupportedError("comments (without a post)")
    if texts["comment_type"] not in ("", "comment"):
        raise UnsupportedError(f"comments ({texts['comment_type']})")
    approved = texts["comment_approved"]
    if approved not in COMMENT_STATES:
        raise UnsupportedError(f"comments ({approved})")
    fields = {
        "post_id": post.fields["id"],
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
        text = LINE_END.sub(lambda end: "<br>\n" if end[0] == "\n" else end[0], text.strip())
    text = markdownify(f"<div>{text}</div>", heading_style="ATX", bullets="-")
    # Several line breaks in a row are the end of a paragraph.
    return re.sub(r"( +\n){2,}", "\n\n", text).strip()
