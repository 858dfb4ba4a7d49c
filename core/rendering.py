"""User text to safe HTML: the one way by which it reaches a page. No Flask, no database."""

import hashlib
import html
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Hashable
from datetime import datetime, tzinfo
from functools import cache, lru_cache
from itertools import accumulate
from threading import Lock

import nh3
from cachetools import LRUCache, cached
from cachetools.keys import hashkey
from markupsafe import Markup, escape

from core.markdown_links import URL_SCHEMES
from core.markdown_rules import parser

SLUG_MAX = 60  # characters; longer links break in mails
EXCERPT_MAX = 300  # characters, about four lines
FIRST_WORDS_MAX, UNTITLED = 60, "Untitled"  # characters; and a title for a text without words
SNIPPET_MAX = 140  # characters on either side of a match
RENDERED_MAX = 8_000_000  # characters of rendered texts that are cached; usual ones have 3,000
KEY_SIZE = 200  # bytes, about
CACHED_MAX = 256  # slugs and dates
NOT_FOLDED = "+#\u3099\u309a"  # of C++ and C#, and the voicing marks of kana
# nh3's own tags and attributes, and what our plugins make; visitors' HTML never gets this far.
TAGS = nh3.ALLOWED_TAGS | {"input", "label"}
ATTRIBUTES = nh3.ALLOWED_ATTRIBUTES | {
    "*": {"class", "dir", "id", "title"},
    "a": {"href", "aria-label"},
    "input": {"type", "checked", "disabled"},
}
NOT_PLAIN = {"pre", "section", "sup", "table"}  # code, notes, their numbers, tables
HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
# They break XML, and can come from references such as "&#12;".
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
# What shows nothing, turns the direction of the words that follow, or starts a line.
INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb]"
)
OWN_PICTURE = r'src="[^"]*/pictures/[0-9a-f]{32}-([0-9]+)x([0-9]+)\.webp"'  # its size in its name
SET_ATTRIBUTES = {
    "img": {"loading": "lazy"},
    "pre": {"tabindex": "0"},  # scrolls by keyboard, as a table does
    "table": {"tabindex": "0"},
    "li": {"dir": "auto"},  # its marker is where its first letter is, as the line of a quote
    "blockquote": {"dir": "auto"},
}


def _size(page: str) -> int:
    return len(page) + KEY_SIZE


def _key(text: str, *options: object, **named: object) -> Hashable:
    """A cache key that is short, however long the text: its digest."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
    return hashkey(digest, *options, **named)


def normalize_text(text: str) -> str:
    """The text with `\\n` as line ends, without control characters; "" if nothing is visible."""
    text = CONTROLS.sub("", re.sub(r"\r\n?", "\n", text))
    visible = INVISIBLE.sub("", text)
    return text if any(char.isprintable() and not char.isspace() for char in visible) else ""


@cached(LRUCache(RENDERED_MAX, getsizeof=_size), key=_key, lock=Lock())
def markdown(text: str, small: bool = False, base: str = "", root: str = "") -> Markup:
    """Safe HTML of a Markdown text, whose links are absolute where `base`, a URL, is given.

    CommonMark with tables, strikethrough, bare links, task lists, footnotes and coloured code.
    `small` is for comments: line breaks are kept; no images, headings, tables or footnotes.
    Addresses that begin with a slash are below `root`, the path under which the blog lives.
    """
    page = parser(small=small, slug=slug).render(text, {"root": root})
    # The Content-Security-Policy blocks inline styles, so a cell's alignment becomes a class.
    page = re.sub(' style="text-align:([a-z]+)"', r' class="\1"', page)
    # Here, since nh3 sets two attributes in any order, which would change the page's digest.
    page = page.replace("<table>", '<table dir="auto">')
    page = re.sub(OWN_PICTURE, r'\g<0> width="\1" height="\2"', page)
    return Markup(CONTROLS.sub("", _cleaner(base).clean(page)))


@lru_cache(maxsize=CACHED_MAX)
def _cleaner(base: str) -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=TAGS,
        attributes=ATTRIBUTES,
        set_tag_attribute_values=SET_ATTRIBUTES,
        url_schemes=URL_SCHEMES,
        link_rel="nofollow ugc noopener",
        url_relative=("rewrite_with_base", base) if base else "pass_through",
    )


@cached(LRUCache(RENDERED_MAX, getsizeof=_size), key=_key, lock=Lock())
def plain_text(text: str, headings: bool = True) -> str:
    """The words of the rendered text, without footnotes, tables, code and maybe headings."""
    page = parser(small=False, slug=slug).render(text)
    left_out = NOT_PLAIN if headings else NOT_PLAIN | HEADINGS
    bare = nh3.clean(page, tags=set(), attributes={}, clean_content_tags=left_out)
    return CONTROLS.sub("", " ".join(html.unescape(bare).split()))


def excerpt(text: str) -> str:
    """The beginning of the rendered text without headings, as plain text, cut between words."""
    return _cut(plain_text(text, headings=False), EXCERPT_MAX)


def first_words(text: str, is_whole: bool = True) -> str:
    """What stands for the title where there is none; words, or what a picture shows."""
    if not is_whole:  # a comment may end where the text is cut off
        text = re.sub(r"<!--(?:(?!-->).)*\Z", "", text, flags=re.DOTALL)
    page = parser(small=False, slug=slug).render(text)
    pictures = re.findall('<img [^>]*alt="([^"]+)"', page)
    words = plain_text(text) or html.unescape(" ".join(pictures[:1]))
    if not words:  # code and tables
        words = " ".join(html.unescape(nh3.clean(page, tags=set(), attributes={})).split())
    return _cut(CONTROLS.sub("", words), FIRST_WORDS_MAX) or UNTITLED


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    cut = text[: most + 1].rpartition(" ")[0] or text[:most]
    return f"{cut.rstrip(',.;:')} …"


def snippet(text: str, pattern: str) -> Markup:
    """The first match in the plain text, highlighted, with the words before and after it.

    The pattern is a regular expression for folded text. Without a match: the excerpt.
    """
    words = plain_text(text)
    folded = [fold(character) for character in words]
    match = re.search(pattern, "".join(folded))
    if not match:
        return escape(excerpt(text))
    # Where each character begins in the folded text, which may be longer or shorter.
    starts = list(accumulate(map(len, folded), initial=0))
    begin, end = bisect_right(starts, match.start()) - 1, bisect_left(starts, match.end())
    before = _cut(words[:begin][::-1], SNIPPET_MAX)[::-1]  # reversed, for its end is what is near
    after = _cut(words[end:], SNIPPET_MAX)
    return Markup("{}<mark>{}</mark>{}").format(before, words[begin:end], after)


@lru_cache(maxsize=CACHED_MAX)
def date(at: datetime, zone: tzinfo, format: str = "%Y-%m-%d") -> Markup:
    """`<time>` with the day of an aware time in that zone; `format` is that of `strftime`."""
    at = at.astimezone(zone)
    return Markup(f'<time datetime="{at.isoformat("T", "seconds")}">{at.strftime(format)}</time>')


def pluralize(count: int, noun: str, most: int) -> str:
    """The count with its noun: 1 comment, 20 comments; past `most`, 1,000+ comments."""
    number = f"{most:,}+" if count > most else f"{count:,}"
    return f"{number} {noun}" if count == 1 else f"{number} {noun}s"


def fold(text: str) -> str:
    """The text without case and accents, with spaces for all but letters, digits, `+` and `#`."""
    return "".join(map(_fold_character, text))


@cache  # there are 0.3 million characters
def _fold_character(character: str) -> str:
    folded = ""
    for part in unicodedata.normalize("NFKD", character.casefold()):
        kind = unicodedata.category(part)
        if part.isalnum() or part in NOT_FOLDED:
            folded += part
        elif kind[0] == "M" and not unicodedata.combining(part):
            folded += part  # a vowel, where vowels are marks
        elif kind[0] != "M" and kind != "Cf":  # an accent, or what shows nothing, goes
            folded += " "
    return unicodedata.normalize("NFC", folded)


@lru_cache(maxsize=CACHED_MAX)
def slug(title: str) -> str:
    """The words of a title for its URL: letters of any script, digits, hyphens; may be empty.

    Only Latin letters lose their accents: in other scripts they make other letters.
    """
    lower = unicodedata.normalize("NFKD", title.lower().replace("ß", "ss"))
    plain = re.sub("([a-z])[\u0300-\u036f]+", r"\1", lower)
    words = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in plain).split()
    return unicodedata.normalize("NFC", "-".join(words))[:SLUG_MAX].strip("-")
