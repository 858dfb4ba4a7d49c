"""How Markdown is read: CommonMark with what this blog adds to it and leaves out."""

import html
import re
from collections.abc import Sequence
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock, html_block
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline, html_inline
from markdown_it.token import Token
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.tasklists import tasklists_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

NESTING_MAX = 20  # quotes in lists in quotes; bounds the time of hostile texts
EXPANSION_MAX = 300_000  # characters that links by reference may grow to
COLOURED_MAX = 3_000  # characters of a block of code; hostile ones take some lexers 0.3 s
# The languages whose lexers stay fast with hostile code; others took minutes.
LANGUAGES = set(
    "bash c c++ console cpp css diff docker dockerfile go html ini java javascript js json kotlin "
    "lua nginx perl php py pycon python rb rs ruby rust sh sql swift toml ts typescript xml yaml "
    "yml".split()
)
URL_SCHEMES = {"http", "https", "mailto", "tel", "sms", "xmpp", "geo"}
SCHEME = re.compile("([a-z][a-z0-9+.-]*):", re.IGNORECASE)


@cache
def parser(small: bool) -> MarkdownIt:
    """The parser of posts, or of comments where `small`."""
    options = {"html": True, "maxNesting": NESTING_MAX, "highlight": _coloured, "breaks": small}
    made = MarkdownIt("gfm-like", options)
    # The other half of linkify, in the core, finds the same links without going back and forth.
    made.inline.ruler.disable("linkify")
    # "app.py" is a file, not a site in Paraguay.
    made.linkify.set({"fuzzy_link": False})  # type: ignore[union-attr]  # it is installed
    # Of HTML, only comments: they are found, and shown nowhere.
    made.block.ruler.at("html_block", _comment_block, {"alt": ["paragraph", "reference"]})
    made.inline.ruler.at("html_inline", _comment)
    made.add_render_rule("html_block", _without_comments)
    made.add_render_rule("html_inline", _without_comments)
    made.use(tasklists_plugin)
    made.core.ruler.push("links", _mend_links)
    made.core.ruler.after("block", "references", _bound_references)
    if small:
        return made.disable(["image", "heading", "lheading", "table"])
    made.core.ruler.push("headings", _rank_headings)
    return made.use(footnote_plugin)


def _bound_references(state: StateCore) -> None:
    """Forget a text's link definitions if its references could repeat them without end."""
    definitions = state.env.get("references", {})
    longest = max((len(str(definition)) for definition in definitions.values()), default=0)
    if longest * state.src.count("[") > EXPANSION_MAX:
        definitions.clear()


def _rank_headings(state: StateCore) -> None:
    """Rank headings from h2, below the post's title, so that none is skipped; drop empty ones."""
    levels: list[str] = []  # of the headings that a heading stands under, and its own
    kept = []
    for before, token in zip([None, *state.tokens], state.tokens, strict=False):
        kept.append(token)
        if token.type == "heading_open":
            levels = [*[level for level in levels if level < token.tag], token.tag]
            token.tag = f"h{min(len(levels) + 1, 6)}"
        elif token.type == "heading_close":
            token.tag = f"h{min(len(levels) + 1, 6)}"
            if before and not before.children:
                del kept[-3:]
    state.tokens = kept


def _comment_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """The rule of CommonMark for blocks of HTML, for comments alone."""
    begin = state.bMarks[start] + state.tShift[start]
    # Looked for once: a hostile text may begin thousands of comments and end none.
    last = state.env.setdefault("last_comment", state.src.rfind("-->"))
    if last < begin or not state.src.startswith("<!--", begin):
        return False
    close = state.src.find("-->", begin + 4, state.eMarks[end - 1])
    if close < 0:
        return False
    rest = state.src[close + 3 : state.eMarks[end - 1]].partition("\n")[0]
    # With a text behind it, it is for the inline rule, unless it goes over an empty line.
    if rest.strip() and "\n\n" not in state.src[begin:close]:
        return False
    return html_block(state, start, end, silent)


def _comment(state: StateInline, silent: bool) -> bool:
    """The rule of CommonMark for inline HTML, for comments alone."""
    return state.src.startswith("<!--", state.pos) and html_inline(state, silent)


def _without_comments(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, *_: object
) -> str:
    """What stands in the same lines as a comment."""
    rest = re.sub("<!--.*?-->", "", tokens[index].content, flags=re.DOTALL).strip()
    return f"<p>{html.escape(rest)}</p>\n" if rest else ""


def _mend_links(state: StateCore) -> None:
    """Drop links without words, and show the address of those whose scheme is unknown."""
    for block in state.tokens:
        if block.children:
            block.children = _mended(block.children)


def _mended(tokens: list[Token]) -> list[Token]:
    result: list[Token] = []
    opened = 0  # the position of the link's first token in the result
    for token in tokens:
        result.append(token)
        if token.type == "link_open":
            opened = len(result) - 1
        if token.type != "link_close":
            continue
        words = "".join(part.content for part in result[opened:])
        url = str(result[opened].attrGet("href"))
        scheme = SCHEME.match(url)
        if len(result) == opened + 2:
            del result[opened:]
        elif scheme and scheme[1].lower() not in URL_SCHEMES:
            address = "" if words == url else f" ({url})"
            result[opened:] = [*result[opened + 1 : -1], Token("text", "", 0, content=address)]
    return result


def _coloured(code: str, language: str, _attributes: str) -> str:
    """The code with Pygments' classes; "", for code as it is, where that would take too long."""
    if language.lower() not in LANGUAGES or len(code) > COLOURED_MAX:
        return ""
    return highlight(code, get_lexer_by_name(language), HtmlFormatter(nowrap=True))
