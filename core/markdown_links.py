"""Which links and pictures of a text work; what the others become."""

import html
import re
from collections.abc import Sequence
from typing import Any

import nh3
from linkify_it import LinkifyIt  # type: ignore[import-untyped]  # it has no types
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

URL_SCHEMES = {"http", "https", "mailto", "tel", "sms", "xmpp", "geo"}
LINK = nh3.Cleaner(tags={"a"}, attributes={"a": {"href"}}, url_schemes=URL_SCHEMES)
PICTURE = re.compile("https://|/[^/]")  # what the Content-Security-Policy lets load
# Sentences go on behind it without a space, and addresses have it percent-encoded.
NOT_FULL_WIDTH = re.compile(
    "[^。、，．！？；：…「」『』（）【】《》〈〉〔〕［］｛｝〖〗〘〙“”｡､｢｣]+"
)


class Linkify(LinkifyIt):
    """Finds bare addresses, which end before the punctuation of Chinese and Japanese."""

    def match(self, text: str) -> list[Any] | None:
        """The addresses in the text, with their positions; None without any."""
        links = []
        for piece in NOT_FULL_WIDTH.finditer(text):
            for link in super().match(piece[0]) or []:
                link.index += piece.start()
                link.last_index += piece.start()
                links.append(link)
        return links or None


def mend_links(state: StateCore) -> None:
    """Drop links without words, and show the address of those that lead nowhere.

    Pictures that would not load become links. Addresses are below the blog's path.
    """
    root = state.env.get("root", "")
    for block in state.tokens:
        if block.children:
            block.children = _mended(block.children, root)


def _mended(tokens: list[Token], root: str) -> list[Token]:
    result: list[Token] = []
    opened = None  # the position of the link's first token in the result
    for token in tokens:
        result.append(token)
        if token.type == "link_open":
            opened = len(result) - 1
            _move_below(root, token, "href")
        elif token.type == "image":
            _move_below(root, token, "src")
            result[-1:] = _picture(token, is_in_link=opened is not None)
        elif token.type == "link_close" and opened is not None:
            result[opened:] = _link(result[opened:])
            opened = None
    return result


def _move_below(root: str, token: Token, attribute: str) -> None:
    """Put the blog's path in front of an address that is relative to the blog."""
    url = str(token.attrGet(attribute))
    is_below = url == root or url.startswith((f"{root}/", f"{root}?", f"{root}#"))
    if url.startswith("/") and not url.startswith("//") and not is_below:
        token.attrSet(attribute, root + url)


def _picture(token: Token, is_in_link: bool) -> list[Token]:
    """The picture, or a link with its description if it would not load."""
    source, description = str(token.attrGet("src")), words(token.children)
    if not source or source.startswith("data:"):
        return [_text(description)]
    if not _is_linkable(source):
        return [_text(f"{description} ({source})" if description else source)]
    if PICTURE.match(source):
        token.children = [_text(description)]
        return [token]
    text = _text(description or source)
    if is_in_link:
        return [text]
    opening = Token("link_open", "a", 1, attrs={**token.attrs, "href": source})
    return [opening, text, Token("link_close", "a", -1)]


def _link(tokens: list[Token]) -> list[Token]:
    """The link, its words alone if its address is of no use, or nothing without words."""
    if not any(map(is_shown, tokens[1:-1])):
        return []
    url = str(tokens[0].attrGet("href"))
    if _is_linkable(url):
        return tokens
    address = "" if words(tokens) == url else f" ({url})"
    return [*tokens[1:-1], _text(address)]


def _is_linkable(url: str) -> bool:
    """Whether browsers can follow it: its scheme is known, its host and port are possible."""
    return "href" in LINK.clean(f'<a href="{html.escape(url)}">')


def is_shown(token: Token) -> bool:
    """Whether it is more than white space."""
    return token.type not in ("text", "softbreak") or bool(token.content.strip())


def words(tokens: Sequence[Token] | None) -> str:
    """The words of a piece of text, with those that describe its pictures."""
    found = ""
    for token in tokens or []:
        if token.type == "image":
            found += words(token.children)
        else:
            found += "\n" if token.type in ("softbreak", "hardbreak") else token.content
    return found


def _text(words: str) -> Token:
    return Token("text", "", 0, content=words)
