"""How Markdown is read: CommonMark with what this blog adds to it and leaves out."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_core import StateCore
from markdown_it.rules_inline import StateInline, emphasis, strikethrough
from markdown_it.token import Token
from mdit_py_plugins.footnote import footnote_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from core.markdown_links import Linkify, is_shown, mend_links, words

NESTING_MAX = 20  # quotes in lists in quotes; bounds the time of hostile texts
EXPANSION_MAX = 300_000  # characters that links by reference may grow to
COLOURED_MAX = 3_000  # characters of a block of code; hostile ones take some lexers 0.3 s
# The languages whose lexers stay fast with hostile code; others took minutes.
LANGUAGES = set(
    "bash c c++ console cpp css diff docker dockerfile go html ini java javascript js json kotlin "
    "lua nginx perl php py pycon python rb rs ruby rust sh sql swift toml ts typescript xml yaml "
    "yml".split()
)
TASK = re.compile(r"\[([ xX])\](?=\s)")
WIDE = {"W", "F", "H"}  # how Unicode names the widths of Chinese, Japanese and Korean characters
# What the pages around a text call their own parts: footnotes, comments, fields with hints.
PAGE_ID = re.compile(
    r"fn(ref)?\d+|comment(-\d+)?|comments|content|write|saved|pictures?|.*-(heading|hint|error)|"
    "title|body|tags|description|submission|version|website"
)


@cache
def parser(small: bool, slug: Callable[[str], str]) -> MarkdownIt:
    """The parser of posts, or of comments where `small`; `slug` makes the ids of headings."""
    options = {"html": True, "maxNesting": NESTING_MAX, "highlight": _coloured, "breaks": small}
    made = MarkdownIt("gfm-like", options)
    # The other half of linkify, in the core, finds the same links without going back and forth.
    made.inline.ruler.disable("linkify")
    # "app.py" is a file, not a site in Paraguay.
    made.linkify = Linkify(options={"fuzzy_link": False})
    # Of HTML, only comments: they are found, and shown nowhere.
    made.block.ruler.at("html_block", _comment_block, {"alt": ["paragraph", "reference"]})
    made.inline.ruler.at("html_inline", _comment)
    made.inline.ruler.at("emphasis", _beside_cjk(emphasis.tokenize))
    made.inline.ruler.at("strikethrough", _beside_cjk(strikethrough.tokenize))
    made.core.ruler.after("block", "references", _bound_references)
    made.core.ruler.after("block", "comments", _hide_long_comments)
    if small:
        made.disable(["image", "heading", "lheading", "table"])
    else:
        made.use(footnote_plugin)
        made.add_render_rule("footnote_ref", _footnote)
        made.add_render_rule("footnote_anchor", _back_to_the_text)
    made.core.ruler.after("inline", "tasks", _make_tasks)
    made.core.ruler.push("links", mend_links)
    made.core.ruler.push("empty", _drop_empty_blocks)
    made.core.ruler.push("headings", _rank_headings)
    made.core.ruler.push("ids", _name_headings(slug))
    return made


def _bound_references(state: StateCore) -> None:
    """Forget a text's link definitions if its references could repeat them without end."""
    definitions = state.env.get("references", {})
    longest = max((len(str(definition)) for definition in definitions.values()), default=0)
    if longest * state.src.count("[") > EXPANSION_MAX:
        definitions.clear()


def _drop_empty_blocks(state: StateCore) -> None:
    """Drop paragraphs and headings of which nothing is left to show."""
    kept: list[Token] = []
    for token in state.tokens:
        kept.append(token)
        if token.type not in ("paragraph_close", "heading_close"):
            continue
        if kept[-2].type == "inline" and not any(map(is_shown, kept[-2].children or [])):
            del kept[-3:]
    state.tokens = kept


def _rank_headings(state: StateCore) -> None:
    """Rank headings from h2, below the post's title, so that none is skipped."""
    levels: list[str] = []  # of the headings that a heading stands under, and its own
    for token in state.tokens:
        if token.type == "heading_open":
            levels = [*[level for level in levels if level < token.tag], token.tag]
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(len(levels) + 1, 6)}"


def _name_headings(slug: Callable[[str], str]) -> Callable[[StateCore], None]:
    """The rule that gives headings ids of their words, of which each is once in the page."""

    def name_headings(state: StateCore) -> None:
        counts: dict[str, int] = {}
        for token, block in pairwise(state.tokens):
            if token.type != "heading_open" or not (name := slug(words(block.children))):
                continue
            if PAGE_ID.fullmatch(name):
                name = f"section-{name}"
            unique = name
            while unique in counts:
                counts[name] += 1
                unique = f"{name}-{counts[name]}"
            counts[unique] = 1
            token.attrSet("id", unique)

    return name_headings


def _make_tasks(state: StateCore) -> None:
    """Make checkboxes of `[ ]` and `[x]` that begin list items, labelled with what follows."""
    tokens = state.tokens
    for item, paragraph, block in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if item.type != "list_item_open" or paragraph.type != "paragraph_open":
            continue
        children = block.children or []
        task = children and children[0].type == "text" and TASK.match(children[0].content)
        if not task:
            continue
        children[0].content = children[0].content[task.end() :]
        item.attrSet("class", "task-list-item")
        checked: dict[str, str | int | float] = {} if task[1] == " " else {"checked": "checked"}
        attributes = {**checked, "disabled": "disabled", "type": "checkbox"}
        opening = [Token("label_open", "label", 1), Token("box", "input", 0, attrs=attributes)]
        block.children = [*opening, *children, Token("label_close", "label", -1)]


def _comment_block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """Skip a comment that has its lines for itself."""
    # A paragraph asks beyond its quote, and each line of a list item to its end.
    if start < state.env.get("unclosed", 0):
        return False
    begin, bound = state.bMarks[start] + state.tShift[start], state.eMarks[end - 1]
    close = _end_of_comment(state.src, begin, bound)
    if close < 0 and not silent and state.src.startswith("<!--", begin):
        state.env["unclosed"] = end
    if close < 0 or state.is_code_block(start):
        return False
    if state.src[close + 3 : bound].partition("\n")[0].strip():
        return False  # with a text behind it, it is part of a paragraph
    line = start
    while not silent and state.eMarks[line] < close:
        line += 1
        if state.sCount[line] < state.blkIndent and not state.isEmpty(line):
            state.env["unclosed"] = line
            return False  # the list item ends first
    if not silent:
        state.line = line + 1
    return True


def _end_of_comment(text: str, begin: int, bound: int) -> int:
    """The position of its `-->`; -1 if no comment begins there, or none ends."""
    if not text.startswith("<!--", begin) or _last_end(text) < begin:
        return -1
    return text.find("-->", begin + 2, bound)  # "<!-->" is a whole one


@lru_cache(maxsize=16)
def _last_end(text: str) -> int:
    # Looked for once: a hostile text may begin thousands of comments and end none.
    return text.rfind("-->")


def _comment(state: StateInline, silent: bool) -> bool:  # noqa: ARG001  # it makes no token
    """Skip a comment inside a paragraph."""
    close = _end_of_comment(state.src, state.pos, state.posMax)
    if close < 0:
        return False
    state.pos = close + 3
    return True


def _hide_long_comments(state: StateCore) -> None:
    """Cut out comments that begin inside a paragraph and go over empty lines.

    They end in the quote or list item, if any, in which they begin.
    """
    kept: list[Token] = []
    begun, position = 0, -1  # where in `kept` and in its content a comment begins
    for token in state.tokens:
        kept.append(token)
        if begun and token.level < kept[begun].level - 1:
            begun = 0
        if token.type != "inline":
            continue
        if begun and token.level == kept[begun].level and "-->" in token.content:
            kept[begun].content = kept[begun].content[:position].rstrip()
            token.content = token.content.partition("-->")[2].lstrip()
            kept[begun + 2 :] = kept[-2:]  # after the end of that paragraph, the beginning of this
            begun = 0
        if not begun and kept[-2].type == "paragraph_open":
            position = _find_comment(state, token.content)
            begun = len(kept) - 1 if position >= 0 else 0
    state.tokens = kept


def _find_comment(state: StateCore, content: str) -> int:
    """The position of a comment that does not end, outside of code and links; -1 without one."""
    last_end = content.rfind("-->")
    if content.find("<!--", max(last_end, 0)) < 0:
        return -1
    reader = StateInline(content, state.md, state.env, [])
    while reader.pos < reader.posMax:
        if reader.pos > last_end and content.startswith("<!--", reader.pos):
            return reader.pos
        state.md.inline.skipToken(reader)
    return -1


def _beside_cjk(
    rule: Callable[[StateInline, bool], bool],
) -> Callable[[StateInline, bool], bool]:
    """The rule, for which `*` and `~~` may begin and end words beside a CJK character.

    CommonMark looks at punctuation on either side, and counts on spaces around words:
    https://github.com/tats-u/markdown-cjk-friendly/blob/main/specification.md
    """

    def rule_beside_cjk(state: StateInline, silent: bool) -> bool:
        start, known = state.pos, len(state.delimiters)
        if not rule(state, silent):
            return False
        before = state.src[start - 1] if start else " "
        after = state.src[state.pos] if state.pos < state.posMax else " "
        if state.src[start] != "_" and (_is_cjk(before) or _is_cjk(after)):
            for delimiter in state.delimiters[known:]:
                delimiter.open, delimiter.close = not after.isspace(), not before.isspace()
        return True

    return rule_beside_cjk


def _is_cjk(character: str) -> bool:
    """A Chinese, Japanese or Korean letter or punctuation mark: wide, but no emoji."""
    is_wide = unicodedata.east_asian_width(character) in WIDE
    return is_wide and unicodedata.category(character)[0] in "LMNP"


def _footnote(_renderer: RendererHTML, tokens: Sequence[Token], index: int, *_: object) -> str:
    """The number in the text that leads to its footnote."""
    number, again = tokens[index].meta["id"] + 1, tokens[index].meta.get("subId")
    id = f"fnref{number}:{again}" if again else f"fnref{number}"
    link = f'<a href="#fn{number}" id="{id}" aria-label="Footnote {number}">[{number}]</a>'
    return f'<sup class="footnote-ref">{link}</sup>'


def _back_to_the_text(
    _renderer: RendererHTML, tokens: Sequence[Token], index: int, *_: object
) -> str:
    """The arrow in a footnote that leads back, one for each place that refers to it."""
    number, again = tokens[index].meta["id"] + 1, tokens[index].meta["subId"]
    place, nth = (f":{again}", f", reference {again + 1}") if again else ("", "")
    name = f"Back to the text{nth}"
    # The selector keeps the arrow from becoming an emoji.
    return f' <a href="#fnref{number}{place}" aria-label="{name}">\u21a9\ufe0e</a>'


def _coloured(code: str, language: str, _attributes: str) -> str:
    """The code with Pygments' classes; "", for code as it is, where that would take too long."""
    if language.lower() not in LANGUAGES or len(code) > COLOURED_MAX:
        return ""
    return highlight(code, get_lexer_by_name(language), HtmlFormatter(nowrap=True))
