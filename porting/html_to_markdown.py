"""HTML of other blogs to the Markdown of this one."""

import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urljoin

from bs4 import BeautifulSoup
from bs4.element import NavigableString, PageElement, Tag
from bs4.exceptions import ParserRejectedMarkup
from markdownify import MarkdownConverter

from core.markdown_links import URL_SCHEMES
from porting.records import Report

# Elements that stand on lines of their own.
BLOCKS = set(
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hr html iframe li main nav ol p pre section summary "
    "table tbody td tfoot th thead tr ul".split()
)
MARKED = ["b", "del", "em", "i", "s", "strike", "strong"]  # what has marks around it
PICTURE_SOURCES = ("src", "data-src", "data-lazy-src")  # where pages that load them late keep them
MEDIA = {"audio": "Sound", "video": "Video"}  # others are a page's "Content"
# Comments, and what browsers take for some, such as Word's <![if …]>.
COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|<[!?][^>]*>?", re.DOTALL)
SPACES = re.compile(r"[ \t\r\f]+")
LINE_END = re.compile(r" ?\n\s*")
LANGUAGE = re.compile(r"(?:lang(?:uage)?-|(?:brush|lang):\s*)([\w+#-]{1,30})")
NOT_IN_URL = re.compile(r"[\s()<>\\]")
# What Markdown would take for markup. Underscores inside of words are none.
MARKUP = re.compile(
    r"\\(?=[!-/:-@\[-`{-~\n]|\Z)|[*`]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|[!^](?=\[)|~(?=~)"
    r"|<(?=[a-zA-Z/!?])|&(?=#?\w{1,31};)"
)
# At the beginning of a line: a list, a heading, a quote, a fence, a line below a heading or table.
LINE_MARKUP = re.compile(
    r"(?m)^( ?\d{1,9}(?=[.)](?:\s|$))| ?(?=(?:[-+]|#{1,6})(?:\s|$)|>|~~~|[=|:-][=|: -]*$))"
)
ADDRESS = re.compile(r"(https?://[^\s<>\"]*[^\s<>\".,;:!?)\]'])")
RAISED = str.maketrans("0123456789+-()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ")
LOWERED = str.maketrans("0123456789+-()", "₀₁₂₃₄₅₆₇₈₉₊₋₍₎")


class Converter(MarkdownConverter):
    """Converts the texts of one import; what comes in otherwise or is left out is in the report.

    It calls `convert_<tag>` of each element, with the Markdown of what is in it.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(heading_style="ATX", bullets="-")
        self.report = report
        self.location = self.base = ""
        self.small = self.keeps_lines = False
        self.item_counts = Counter[int]()  # by the id of the list

    def to_markdown(
        self,
        html: str,
        location: str,
        base: str = "",
        small: bool = False,
        keeps_lines: bool = False,
    ) -> str:
        """Markdown from HTML; ValueError if it cannot be read.

        Relative links start from `base`. `small` is for comments, which have no pictures, headings
        and tables. With `keeps_lines`, line ends and blank lines between elements count.
        """
        self.location, self.base, self.small, self.keeps_lines = location, base, small, keeps_lines
        self.item_counts.clear()
        try:
            # Blank lines between elements count, which the parser would make one line end.
            page = f"<body>{COMMENT.sub('', html)}</body>"
            soup = BeautifulSoup(page, "html.parser", preserve_whitespace_tags={"body"})
        except ParserRejectedMarkup as error:
            raise ValueError("its HTML cannot be read") from error
        _join_marked(soup)
        return str(self.convert_soup(soup)).strip()

    # Text

    def process_text(self, el: NavigableString, parent_tags: set[str]) -> str:
        """The text with its line ends as they count, and escaped."""
        text = str(el)
        if "pre" in parent_tags:
            return text
        is_inline = "_inline" in parent_tags or "_noformat" in parent_tags
        keeps_lines = self.keeps_lines and not is_inline
        text = LINE_END.sub(_line_end if keeps_lines else "\n", SPACES.sub(" ", text))
        before, after = el.previous_sibling, el.next_sibling
        begins_line = before is None or _breaks_line(before)
        if (before is None and _is_block(el.parent)) or _breaks_line(before):
            text = text.lstrip(" \n")
        if (after is None and _is_block(el.parent)) or _is_block(after):
            text = text.rstrip(" \n")
        if "_noformat" in parent_tags:
            return text
        text = self.escape(text, parent_tags, begins_line)
        if text.endswith("!") and isinstance(after, Tag) and after.name == "a":
            text = f"{text[:-1]}\\!"
        return text

    def escape(self, text: str, parent_tags: set[str], begins_line: bool = True) -> str:
        """The text with backslashes before what would be markup, but for addresses."""
        # An address in the words of a link is no link of its own.
        parts = [text] if "a" in parent_tags else ADDRESS.split(text)
        for index, part in enumerate(parts):
            if index % 2 == 0:
                parts[index] = MARKUP.sub(r"\\\g<0>", part)
            elif MARKUP.search(part):
                parts[index] = f"<{part}>"
        text = "".join(parts)
        if "td" in parent_tags or "th" in parent_tags:
            text = text.replace("|", r"\|")
        # Something before the text, so that its beginning is none of a line.
        head = "" if begins_line else "."
        return LINE_MARKUP.sub(r"\1\\", head + text)[len(head) :]

    # Words

    def _marked(self, el: Tag, text: str, parent_tags: set[str], mark: str) -> str:
        """The words between marks, in each paragraph, without the space around them."""
        if "_noformat" in parent_tags or "```" in text:
            return text
        paragraphs = text.split("\n\n")
        for index, paragraph in enumerate(paragraphs):
            words = paragraph.strip()
            if words and len(paragraphs) == 1:
                words = _without_edges(el, words)
            if words and not re.match(r"[->#|] |\d+\. ", words):
                paragraphs[index] = paragraph.replace(words, f"{mark}{words}{mark}", 1)
        return "\n\n".join(paragraphs)

    def convert_b(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return self._marked(el, text, parent_tags, "**")

    def convert_em(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return self._marked(el, text, parent_tags, "*")

    def convert_del(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return self._marked(el, text, parent_tags, "~~")

    def convert_sup(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        raised = text.translate(RAISED)
        return text if set(raised) & set(text) else raised

    def convert_sub(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        lowered = text.translate(LOWERED)
        return text if set(lowered) & set(text) else lowered

    convert_strong, convert_i = convert_b, convert_em
    convert_s = convert_strike = convert_del

    def convert_a(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        words, href = " ".join(text.split()), _value(el, "href")
        if not words or not href or "_noformat" in parent_tags:
            return text
        url = self._url(href)
        if _scheme(url) not in {"", *URL_SCHEMES}:
            self.report.change(self.location, "links without a usable address (now words)")
            return text
        if el.get_text().strip() == url and _scheme(url) in ("http", "https"):
            return f"<{url}>"
        title = " ".join(_value(el, "title").split()).replace('"', "'")
        return _around(text, f'[{words}]({url} "{title}")' if title else f"[{words}]({url})")

    def convert_br(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        if "pre" in parent_tags:
            return "\n"
        if "_inline" in parent_tags or "_noformat" in parent_tags:
            return " "
        if _is_named(_neighbour(el.previous_siblings), "br"):
            return ""
        # Two in a row end a paragraph.
        return "\n\n" if _is_named(_neighbour(el.next_siblings), "br") else "  \n"

    # Blocks

    def _block(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        words = text.strip()
        if "_inline" in parent_tags:
            return f" {words} "
        return f"\n\n{words}\n\n" if words else "\n\n"

    convert_p = convert_div = convert_figure = convert_figcaption = convert_center = _block
    convert_address = convert_aside = convert_article = convert_section = convert_main = _block
    convert_header = convert_footer = convert_nav = convert_details = convert_fieldset = _block
    convert_form = convert_dl = convert_dd = _block

    def convert_dt(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return self._block(el, self._marked(el, text.strip(), parent_tags, "**"), parent_tags)

    convert_summary = convert_dt

    def convert_hN(self, n: int, el: Tag, text: str, parent_tags: set[str]) -> str:  # noqa: N802  # markdownify's name
        words = " ".join(text.split())
        if self.small and words:
            self.report.change(self.location, "headings in comments (now bold)")
            return self.convert_dt(el, words, parent_tags)
        if not words or "_inline" in parent_tags:
            return words
        return f"\n\n{'#' * max(1, min(n, 6))} {words}\n\n"

    def convert_li(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        if not text.strip():
            return "\n"
        mark = "- "
        if _is_named(el.parent, "ol"):
            start = _value(el.parent, "start")
            number = int(start) if re.fullmatch("[0-9]{1,6}", start) else 1
            mark = f"{number + self.item_counts[id(el.parent)]}. "
            self.item_counts[id(el.parent)] += 1
        lines = text.strip().splitlines()
        indented = [f"{' ' * len(mark)}{line}" if line else "" for line in lines[1:]]
        return "\n".join([mark + lines[0], *indented, ""])

    # Code

    def convert_code(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        if "_noformat" in parent_tags:
            return text
        code = _code(el)
        if "\n" in code.strip() and "_inline" not in parent_tags:
            return _fenced(code, LANGUAGE.search(_classes(el)))
        words = " ".join(code.split())
        mark = "`" * (_longest_run(words) + 1)
        space = " " if len(mark) > 1 else ""
        return _around(code, f"{mark}{space}{words}{space}{mark}") if words else text

    convert_kbd = convert_samp = convert_tt = convert_code

    def convert_pre(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        code = _code(el)
        if "_inline" in parent_tags:
            return self.convert_code(el, text, parent_tags)
        inner = el.find("code", recursive=False)
        classes = f"{_classes(el)} {_classes(inner) if isinstance(inner, Tag) else ''}"
        return _fenced(code, LANGUAGE.search(classes)) if code.strip() else ""

    # Tables: lines of words in comments, and where a cell holds another table

    def convert_td(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        words = " ".join(text.split())
        if self.small or "_inline" in parent_tags:
            return f"{words}, " if words else ""
        span = _value(el, "colspan")
        width = min(int(span), 100) if re.fullmatch("[1-9][0-9]{0,3}", span) else 1
        return f" {words} |" + " |" * (width - 1)

    convert_th = convert_td

    def convert_tr(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        if self.small or "_inline" in parent_tags:
            words = text.strip(" ,")
            return f"{words}  \n" if words else ""
        return f"|{text.rstrip()}\n" if text.strip() else ""

    def convert_table(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        if self.small:
            self.report.change(self.location, "tables in comments (now lines)")
        if self.small or "_inline" in parent_tags:
            return self._block(el, text, parent_tags)
        lines = [line for line in text.splitlines() if line.strip()]
        caption = " ".join(line for line in lines if not line.startswith("|"))
        rows = [line for line in lines if line.startswith("|")]
        width = max((len(re.findall(r"(?<!\\)\|", row)) - 1 for row in rows), default=0)
        first = el.find("tr")
        if not isinstance(first, Tag) or not first.find("th", recursive=False):
            rows.insert(0, "|" + "  |" * width)
        rows.insert(1, "|" + " --- |" * width)
        parts = [caption, "\n".join(rows)] if caption else ["\n".join(rows)]
        return "\n\n".join(["", *parts, ""])

    # Pictures and media

    def convert_img(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        words = self.escape(" ".join(_value(el, "alt").split()), {"a"}, begins_line=False)
        sources = [_value(el, name).strip() for name in PICTURE_SOURCES]
        source = next((url for url in sources if url and not url.startswith("data:")), "")
        if not source:
            if any(sources):
                self.report.leave_out(self.location, "pictures inside of the text (data:)")
            return words
        url = self._url(source)
        if _scheme(url) == "http":
            self.report.change(self.location, "picture addresses (http to https)")
            url = f"https{url[4:]}"
        if not self.small:
            return f"![{words}]({url})"
        self.report.change(self.location, "pictures in comments (now links)")
        words = words or self.escape(_file_name(url), {"a"}, begins_line=False) or "Picture"
        return words if "a" in parent_tags else f"[{words}]({url})"

    def _media(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """A link to what is played or shown in the page."""
        source = ""
        for part in [el, *el.find_all(["source", "embed", "param"], recursive=False)]:
            is_source = part.name != "param" or _value(part, "name").lower() in ("movie", "src")
            names = ("value",) if part.name == "param" else (*PICTURE_SOURCES, "data")
            found = [_value(part, name).strip() for name in names if is_source]
            source = source or next(filter(None, found), "")
        url = self._url(source)
        if not source or _scheme(url) not in ("http", "https"):
            return text
        self.report.change(self.location, "embedded media (now links)")
        name = f"{MEDIA[el.name]}: {_file_name(url)}" if el.name in MEDIA else ""
        words = _value(el, "title") or name or f"Content at {url.split('/')[2]}"
        words = self.escape(" ".join(words.split()), {"a"}, begins_line=False)
        return self._block(el, words if "a" in parent_tags else f"[{words}]({url})", parent_tags)

    convert_iframe = convert_embed = convert_object = convert_audio = convert_video = _media

    def convert_script(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        self.report.leave_out(self.location, f"HTML elements ({el.name})")
        return ""

    convert_style = convert_script

    def _url(self, url: str) -> str:
        """The absolute URL, as the destination of a Markdown link; `#fragment` stays as it is."""
        url = url.strip()
        if self.base and url and not url.startswith("#"):
            with suppress(ValueError):
                url = urljoin(self.base, url)
        url = NOT_IN_URL.sub(lambda character: quote(character[0]), url)
        return re.sub(r"&(?=#?\w{1,31};)", "&amp;", url)


def _join_marked(soup: BeautifulSoup) -> None:
    """Join equal elements that are next to each other."""
    # `find_all` would take a twentieth of an import.
    for tag in [part for part in soup.descendants if isinstance(part, Tag)]:
        if tag.name not in MARKED:
            continue
        # Two next to each other would be `**one****two**`.
        while isinstance(following := tag.next_sibling, Tag) and following.name == tag.name:
            tag.extend(following.extract())


def _without_edges(element: Tag, words: str) -> str:
    """The words without the punctuation that would spoil the marks beside a letter.

    In `**Note:**text` CommonMark sees no bold. Letters and punctuation of Chinese and Japanese
    stay: the blog has a rule for them.
    """
    before, after = _text(element.previous_sibling), _text(element.next_sibling)
    begin, end = 0, len(words)
    if not all(isinstance(part, NavigableString) for part in element.contents):
        return words
    if _is_word(after[:1]):
        while end and _is_mark(words[end - 1]):
            end -= 1
    if _is_word(before[-1:]):
        while begin < end and _is_mark(words[begin]):
            begin += 1
    return words[begin:end]


def _text(element: PageElement | None) -> str:
    return str(element) if isinstance(element, NavigableString) else ""


def _is_word(character: str) -> bool:
    return character.isalnum() and character < "\u3000"


def _is_mark(character: str) -> bool:
    return not character.isalnum() and not character.isspace() and character < "\u3000"


def _line_end(match: re.Match[str]) -> str:
    return "\n\n" if match[0].count("\n") > 1 else "  \n"


def _is_named(element: PageElement | None, name: str) -> bool:
    return isinstance(element, Tag) and element.name == name


def _is_block(element: PageElement | None) -> bool:
    return isinstance(element, Tag) and element.name in BLOCKS


def _breaks_line(element: PageElement | None) -> bool:
    return _is_block(element) or _is_named(element, "br")


def _neighbour(siblings: Iterable[PageElement]) -> PageElement | None:
    """The first sibling but for white space."""
    return next((one for one in siblings if isinstance(one, Tag) or str(one).strip()), None)


def _value(element: PageElement | None, name: str) -> str:
    """The attribute's text; "" without."""
    value = element.get(name) if isinstance(element, Tag) else None
    return value if isinstance(value, str) else ""


def _classes(element: Tag) -> str:
    """What may name the language of code."""
    names = element.get("class")
    classes = " ".join(names) if isinstance(names, list) else str(names or "")
    language = _value(element, "lang") or _value(element, "data-enlighter-language")
    return f"{classes} lang-{language}" if language else classes


def _code(element: Tag) -> str:
    """The text in the element, with its line breaks."""
    parts = (
        "\n" if _is_named(part, "br") else str(part) if type(part) is NavigableString else ""
        for part in element.descendants
    )
    return "".join(parts)


def _fenced(code: str, language: re.Match[str] | None) -> str:
    fence = "`" * max(3, _longest_run(code) + 1)
    lines = code.strip("\n").rstrip()
    return f"\n\n{fence}{language[1] if language else ''}\n{lines}\n{fence}\n\n"


def _longest_run(code: str) -> int:
    """Of backticks."""
    return max(map(len, re.findall("`+", code)), default=0)


def _around(text: str, markup: str) -> str:
    """The markup, with a space where the text has white space around it."""
    before = " " if text[:1].isspace() else ""
    after = " " if text[-1:].isspace() else ""
    return f"{before}{markup}{after}"


def _scheme(url: str) -> str:
    match = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*):", url)
    return match[1].lower() if match else ""


def _file_name(url: str) -> str:
    return PurePosixPath(unquote(url.partition("?")[0])).name
