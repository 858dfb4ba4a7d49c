"""A WordPress export, as the rows that it makes here. It asks no database.

An export is RSS with names of WordPress's own in it (WXR).
"""

import html
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree import ElementTree

from markdownify import markdownify

from forms import POST_MAX
from models import NEVER

BLOCKS = {"author", "item", "comment"}
STATES = {"publish", "future", "draft", "pending", "private"}  # of the posts that come in
HTML_MAX = 4 * POST_MAX  # characters of which Markdown is made
BEFORE_BLOCK = r"\s{0,9}</?(?:blockquote|div|h\d|li|ol|p|pre|t[dhr]|table|tbody|thead|ul)\b"
# What has its own line ends in HTML, and the ends that WordPress makes visible itself.
LINE_ENDS = re.compile(rf"(?is)<pre\b.*?</pre>|<[^>]*>|\n(?!{BEFORE_BLOCK})")
Fields = defaultdict[str, str]


class UnfitError(Exception):
    """Something has no place in this blog; the text says what."""


def blocks(chunks: Iterable[bytes]) -> Iterator[tuple[str, str, Fields]]:
    """The kind, the place and the fields of each author, item and comment.

    ValueError, with a sentence, or ElementTree.ParseError if this is no WordPress export.
    """
    numbers: Counter[str] = Counter()
    item, logins = "", {"": ""}  # of the authors, by number
    for kind, fields in _parsed(chunks):
        logins[fields["author_id"]] = fields["author_login"]
        fields["login"] = logins.get(fields["comment_user_id"], "")
        if kind == "channel" and not fields["wxr_version"]:
            raise ValueError("This is neither a zip nor a WordPress export.")
        numbers[kind] += 1
        place = f"{kind} {numbers[kind]}"
        if kind == "item":
            item = place = f"{place} (“{fields['title'][:40]}”)"
            numbers["comment"] = 0
        if kind != "channel":
            yield kind, f"{item}, {place}" if kind == "comment" else place, fields


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


class _Refusal:
    """What a parser reports to that is to refuse what defines entities, which grow without end."""

    def doctype(self, *_names: str | None) -> None:
        """Say so."""
        raise ValueError("It has a DOCTYPE, which no WordPress export has.")


def _parsed(chunks: Iterable[bytes]) -> Iterator[tuple[str, Fields]]:
    """The blocks, each once the next has begun; first the channel's own fields."""
    checker = ElementTree.XMLParser(target=_Refusal())
    parser: Any = ElementTree.XMLPullParser(["start", "end"])
    kind, fields = "channel", Fields(str)
    for chunk in chunks:
        checker.feed(chunk)
        parser.feed(chunk)
        for event, element in parser.read_events():
            name = element.tag.rpartition("}")[2]
            if event == "start" and name in BLOCKS:
                yield kind, fields
                kind, fields = name, Fields(str)
            elif event == "end":
                text = element.text or ""
                if element.get("domain") in ("category", "post_tag"):
                    fields["tags"] += f"{html.unescape(text)}\n"
                fields.setdefault(name, text)  # the text of a post comes before its excerpt
                element.clear()
    parser.close()
    yield kind, fields


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
