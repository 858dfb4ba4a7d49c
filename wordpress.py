"""A WordPress export, as the rows that it makes here. It asks no database.

An export is RSS with names of WordPress's own in it (WXR).
"""

import html
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser

from markdownify import markdownify

from forms import POST_MAX
from models import NEVER

STATES = {"publish", "future", "draft", "pending", "private"}  # of the posts that come in
HTML_MAX = 4 * POST_MAX  # characters of which Markdown is made
BEFORE_BLOCK = r"\s{0,9}</?(?:blockquote|div|h\d|li|ol|p|pre|t[dhr]|table|tbody|thead|ul)\b"
# What has its own line ends in HTML, and the ends that WordPress makes visible itself.
LINE_ENDS = re.compile(rf"(?is)<pre\b.*?</pre>|<[^>]*>|\n(?!{BEFORE_BLOCK})")
Fields = defaultdict[str, str]


class UnfitError(Exception):
    """Something has no place in this blog; the text says what."""


def blocks(chunks: Iterable[bytes]) -> Iterator[tuple[str, Fields, list[Fields]]]:
    """The place and the fields of each author and item, and the fields of its comments.

    ValueError, with a sentence, or ParseError if this is no WordPress export.
    """
    builder, numbers = _Builder(), Counter[str]()
    parser = XMLParser(target=builder)
    for chunk in chunks:
        parser.feed(chunk)
        for element in builder.blocks:
            kind, fields = _name(element), _fields(element)
            numbers[kind] += 1
            name = fields["title"] or fields["author_login"]
            comments = [_fields(comment) for comment in element.iterfind("{*}comment")]
            yield f"{kind} {numbers[kind]} (“{name[:40]}”)", fields, comments
            element.clear()
        builder.blocks.clear()
    if parser.close().find("channel/{*}wxr_version") is None:
        raise ValueError("This is neither a zip nor a WordPress export.")


class _Builder(TreeBuilder):
    """Collects the blocks, and refuses what defines entities, which grow without end."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Element] = []

    def doctype(self, *_names: str | None) -> None:
        """Say so."""
        raise ValueError("It has a DOCTYPE, which no WordPress export has.")

    def end(self, tag: str) -> Element:
        """Keep what is a whole block now."""
        element = super().end(tag)
        if _name(element) in ("author", "item"):
            self.blocks.append(element)
        return element


def _name(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _fields(element: Element) -> Fields:
    """The texts in an element by their names, and its tags, one a line."""
    tags = [part.text or "" for part in element if part.get("domain") in ("category", "post_tag")]
    # Of the same name are the text of a post and, after it, its excerpt.
    texts = {_name(part): part.text or "" for part in reversed(element)}
    return Fields(str, texts, tags="\n".join(map(html.unescape, tags)))


def post(fields: Fields) -> dict[str, Any]:
    """The row of an item; what its readers could not read becomes a draft."""
    kind, state = fields["post_type"], fields["status"]
    if kind != "post" or state not in STATES:
        raise UnfitError(f"of type {kind}" if kind != "post" else f"in state {state}")
    is_public = state in ("publish", "future") and not fields["post_password"]
    date = _date(fields, "post_date")
    return {
        "title": html.unescape(fields["title"] or fields["post_name"]),
        "body": _markdown(fields["encoded"]),
        "tags": fields["tags"].splitlines(),
        "created_at": date,
        "published_at": date if is_public else NEVER,
        "comments_closed": fields["comment_status"] == "closed",
    }


def comment(fields: Fields) -> dict[str, Any]:
    """The row of a comment; what WordPress shows nobody waits here."""
    kind, approved = fields["comment_type"] or "comment", fields["comment_approved"]
    states = {"1": "shown", "0": "waiting"}
    if kind != "comment" or approved not in states:
        raise UnfitError(f"comments ({kind if kind != 'comment' else approved})")
    return {
        "author": html.unescape(fields["comment_author"]),
        "body": _markdown(fields["comment_content"]),
        "created_at": _date(fields, "comment_date"),
        "state": states[approved],
    }


def _date(fields: Fields, name: str) -> str:
    """WordPress's time, in UTC where it knows that."""
    at = fields[f"{name}_gmt"]
    return fields[name] if at[:4] in ("", "0000") else f"{at}Z"


def _markdown(text: str) -> str:
    """The Markdown of HTML in which WordPress makes line ends visible itself."""
    if len(text) > HTML_MAX:
        raise ValueError(f"its text has more than {HTML_MAX:,} characters")
    if not re.search(r"<p\b|<!-- wp:", text):
        text = LINE_ENDS.sub(lambda end: "<br>\n" if end[0] == "\n" else end[0], text.strip())
    text = markdownify(f"<div>{text}</div>", heading_style="ATX", bullets="-")
    return re.sub(r"( +\n){2,}", "\n\n", text).strip()
