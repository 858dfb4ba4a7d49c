"""A WordPress export: RSS with names of WordPress's own in it (WXR). It asks no database."""

import html
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser

from markdownify import markdownify

from core.pagination import NEVER
from forms import POST_MAX
from porting.records import TEXT_MAX, Person, Problem, Progress, Record, no_progress, read

STATES = {"publish", "future", "draft", "pending", "private"}  # of the posts that come in
HTML_MAX = 4 * POST_MAX  # characters of which Markdown is made
BEFORE_BLOCK = r"\s{0,9}</?(?:blockquote|div|h\d|li|ol|p|pre|t[dhr]|table|tbody|thead|ul)\b"
# What has its own line ends in HTML, and the ends that WordPress makes visible itself.
LINE_ENDS = re.compile(rf"(?is)<pre\b.*?</pre>|<[^>]*>|\n(?!{BEFORE_BLOCK})")
Texts = defaultdict[str, str]  # in an element, by their names


def check(path: Path) -> None:
    """ValueError, with a sentence, or ParseError if this is no WordPress export."""
    for _ in _blocks(path, no_progress):
        pass


def records(path: Path, author: str, progress: Progress) -> Iterator[Record | Problem]:
    """The authors, the posts and their comments, as they are read.

    `author` has written the posts that name no author.
    """
    people: dict[str, Person] = {}  # by WordPress's ids
    for place, texts, comments in _blocks(path, progress):
        if texts["author_login"]:
            person = Person(texts["author_login"], texts["author_display_name"])
            people[texts["author_id"]] = person
            yield Record(place, "accounts", {}, person)
        elif texts["post_type"] == "attachment":
            yield Problem(place, f"{texts['attachment_url']} was not fetched", "not fetched")
        else:
            post = read(place, partial(_post, place, texts, author))
            yield post
            for number, comment in enumerate(comments, start=1):
                at = f"{place}, comment {number}"
                if isinstance(post, Record):
                    yield read(at, partial(_comment, at, comment, post.id, people))
                else:
                    yield Problem(at, "comments (without a post)", "unfit")


def _blocks(path: Path, progress: Progress) -> Iterator[tuple[str, Texts, list[Texts]]]:
    """The place and the texts of each author and item, and the texts of its comments."""
    builder, numbers = _Builder(), Counter[str]()
    parser = XMLParser(target=builder)
    steps = range(0, path.stat().st_size, TEXT_MAX)
    with path.open("rb") as file:
        for _ in progress(steps, "MiB", len(steps)):
            parser.feed(file.read(TEXT_MAX))
            for element in builder.blocks:
                kind, texts = _name(element), _texts(element)
                numbers[kind] += 1
                name = texts["title"] or texts["author_login"]
                comments = [_texts(comment) for comment in element.iterfind("{*}comment")]
                yield f"{kind} {numbers[kind]} (“{name[:40]}”)", texts, comments
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


def _texts(element: Element) -> Texts:
    """The texts in an element by their names, and its tags, one a line."""
    tags = [part.text or "" for part in element if part.get("domain") in ("category", "post_tag")]
    # Of the same name are the text of a post and, after it, its excerpt.
    texts = {_name(part): part.text or "" for part in reversed(element)}
    return Texts(str, texts, tags="\n".join(map(html.unescape, tags)))


def _post(place: str, texts: Texts, author: str) -> Record | Problem:
    """An item; what its readers could not read becomes a draft."""
    kind, state = texts["post_type"], texts["status"]
    if kind != "post":
        return Problem(place, f"of type {kind}", "unfit")
    if state not in STATES:
        return Problem(place, f"in state {state}", "unfit")
    is_public = state in ("publish", "future") and not texts["post_password"]
    date = _date(texts, "post_date")
    fields = {
        "title": html.unescape(texts["title"] or texts["post_name"]),
        "body": _markdown(texts["encoded"]),
        "tags": texts["tags"].splitlines(),
        "created_at": date,
        "published_at": date if is_public else NEVER,
        "comments_closed": texts["comment_status"] == "closed",
    }
    return Record(place, "posts", fields, Person(texts["creator"] or author), place)


def _comment(place: str, texts: Texts, post_id: str, people: dict[str, Person]) -> Record | Problem:
    """A comment; what WordPress shows nobody waits here."""
    kind, approved = texts["comment_type"] or "comment", texts["comment_approved"]
    states = {"1": "shown", "0": "pending"}
    if kind != "comment":
        return Problem(place, f"comments ({kind})", "unfit")
    if approved not in states:
        return Problem(place, f"comments ({approved})", "unfit")
    fields = {
        "post_id": post_id,
        "body": _markdown(texts["comment_content"]),
        "created_at": _date(texts, "comment_date"),
        "state": states[approved],
    }
    nobody = Person(html.unescape(texts["comment_author"]), is_author=False)
    # The id 0 is nobody's.
    author = people.get(texts["comment_user_id"] or "0", nobody)
    return Record(place, "comments", fields, author)


def _date(texts: Texts, name: str) -> str:
    """WordPress's time, in UTC where it knows that."""
    at = texts[f"{name}_gmt"]
    return texts[name] if at[:4] in ("", "0000") else f"{at}Z"


def _markdown(text: str) -> str:
    """The Markdown of HTML in which WordPress makes line ends visible itself."""
    if len(text) > HTML_MAX:
        raise ValueError(f"its text has more than {HTML_MAX:,} characters")
    if not re.search(r"<p\b|<!-- wp:", text):
        text = LINE_ENDS.sub(lambda end: "<br>\n" if end[0] == "\n" else end[0], text.strip())
    text = markdownify(f"<div>{text}</div>", heading_style="ATX", bullets="-")
    return re.sub(r"( +\n){2,}", "\n\n", text).strip()
