"""User text to safe HTML: the one door through which it reaches a page."""

import html
import re
import unicodedata
from functools import lru_cache

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.tasklists import tasklists_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

SLUG_MAX = 60  # characters; longer links break in mails
EXCERPT_MAX = 300  # characters, about four lines
NESTING_MAX = 20  # quotes in lists in quotes; bounds the time of hostile texts
COLOURED_MAX = 6_000  # characters of code in a text; hostile code takes some lexers a second
REMEMBERED = 512  # rendered texts
# The languages whose lexers kept their time with hostile code; others took minutes.
LANGUAGES = {
    *("bash", "c", "c++", "console", "cpp", "css", "diff", "docker", "dockerfile", "go", "html"),
    *("ini", "java", "javascript", "js", "json", "kotlin", "lua", "nginx", "perl", "php", "py"),
    *("pycon", "python", "rb", "rs", "ruby", "rust", "sh", "sql", "swift", "toml", "ts"),
    *("typescript", "xml", "yaml", "yml"),
}
ATTRIBUTES = {
    "a": {"href", "title", "id", "class"},
    "code": {"class"},
    "img": {"src", "alt", "title"},
    "input": {"type", "checked", "disabled"},
    "li": {"id", "class"},
    "ol": {"start", "class"},
    "span": {"class"},
    "sup": {"class"},
    "td": {"class"},
    "th": {"class"},
    "ul": {"class"},
}
TAGS = {
    *("blockquote", "br", "del", "em", "h2", "h3", "h4", "h5", "h6", "hr", "p", "pre", "s"),
    *("strong", "table", "tbody", "thead", "tr", *ATTRIBUTES),
}
SET_ATTRIBUTES = {
    "img": {"loading": "lazy"},
    "input": {"aria-label": "Task"},
    "pre": {"tabindex": "0"},  # scrolls by keyboard
    "table": {"tabindex": "0"},
}


@lru_cache(maxsize=REMEMBERED)
def markdown(text: str, small: bool = False) -> Markup:
    """Safe HTML of a Markdown text.

    CommonMark with tables, strikethrough, bare links, task lists, footnotes and coloured code.
    `small` is for comments: line breaks are kept; no images, headings or footnotes.
    """
    parser = _small_parser() if small else _parser()
    clean = nh3.clean(
        parser.render(text),
        tags=TAGS,
        attributes=ATTRIBUTES,
        set_tag_attribute_values=SET_ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="nofollow ugc noopener",
    )
    return Markup(clean)  # noqa: S704  # this is the door


@lru_cache(maxsize=REMEMBERED)
def excerpt(text: str) -> str:
    """The beginning of the rendered text, as plain text, cut between words."""
    bare = nh3.clean(_parser().render(text), tags=set(), clean_content_tags={"sup", "section"})
    words = " ".join(html.unescape(bare).split())
    if len(words) <= EXCERPT_MAX:
        return words
    cut = words[: EXCERPT_MAX + 1].rpartition(" ")[0] or words[:EXCERPT_MAX]
    return f"{cut.rstrip(',.;:')} …"


def slug(title: str) -> str:
    """The words of a title for its URL: letters of any script, digits, hyphens; may be empty."""
    plain = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", title.casefold()))
    words = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in plain).split()
    return unicodedata.normalize("NFC", "-".join(words))[:SLUG_MAX].strip("-")


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    parser = _base_parser().use(footnote_plugin)
    parser.core.ruler.push("headings", _rank_headings)
    parser.add_render_rule("image", _image)
    return parser


@lru_cache(maxsize=1)
def _small_parser() -> MarkdownIt:
    parser = _base_parser().disable(["image", "heading", "lheading"])
    parser.options["breaks"] = True
    return parser


def _base_parser() -> MarkdownIt:
    options = {
        "html": False,
        "linkify": True,
        "maxNesting": NESTING_MAX,
        "highlight": _coloured,
    }
    parser = MarkdownIt("commonmark", options).enable(["table", "strikethrough", "linkify"])
    # "app.py" is a file here, not a site in Paraguay.
    parser.linkify.set({"fuzzy_link": False})  # type: ignore[union-attr]  # it is installed
    parser.use(tasklists_plugin)
    parser.add_render_rule("fence", _fence)
    parser.add_render_rule("th_open", _aligned)
    parser.add_render_rule("td_open", _aligned)
    return parser


def _coloured(code: str, language: str, _attributes: str) -> str:
    """The code in Pygments' classes; empty, which means as it is, in any other language."""
    if language.lower() not in LANGUAGES:
        return ""
    return highlight(code, get_lexer_by_name(language), HtmlFormatter(nowrap=True))


def _fence(
    self: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """A block of code, without colours once the text has COLOURED_MAX characters of it."""
    env["code"] = env.get("code", 0) + len(tokens[index].content)
    if env["code"] > COLOURED_MAX:
        tokens[index].info = ""
    return self.fence(tokens, index, options, env)


def _rank_headings(state: StateCore) -> None:
    """The text's highest headings become h2, below the post's title, and no level is skipped."""
    headings = [token for token in state.tokens if token.type.startswith("heading_")]
    levels = sorted({token.tag for token in headings})
    for token in headings:
        token.tag = f"h{min(levels.index(token.tag) + 2, 6)}"


def _image(
    self: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """An image from https or from this site; of any other, its description."""
    if re.match(r"https://|/(?![/\\])", str(tokens[index].attrs["src"])):
        return self.image(tokens, index, options, env)
    return html.escape(tokens[index].content)


def _aligned(
    self: RendererHTML, tokens: list[Token], index: int, options: OptionsDict, env: EnvType
) -> str:
    """A cell's alignment as a class: the Content-Security-Policy blocks inline styles."""
    if style := tokens[index].attrs.pop("style", None):
        tokens[index].attrs["class"] = str(style).removeprefix("text-align:")
    return self.renderToken(tokens, index, options, env)
