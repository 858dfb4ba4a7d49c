"""The template tags that generators of sites have in Markdown: Hugo's, Liquid's, kramdown's."""

import re
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from operator import itemgetter

from extras.pictures import markdown_image
from porting.records import Report

# None of them holds a brace, so that a scan ends at the next one.
TOKEN = re.compile(
    r"\{\{(?P<hugo>[<%][^{}]*[>%])\}\}"
    r"|\{%(?P<liquid>[^{}]*)%\}"
    r"|\{\{(?P<output>[^{}]*)\}\}"
    r"|(?:^[*+-] [^\n]*\n)?^[ ]{0,3}\{:[^{}\n]*\}[ \t]*\n?"  # kramdown's; with a table of contents
    r"|\{:[^{}\n]*\}"
    r"|(?<=[^\s{}])[ \t]+\{[#.][^{}\n]*\}(?=[ \t]*$)"  # the id of a heading
    r"|^[ ]{0,3}<!--[ \t]{0,9}more[ \t]{0,9}-->[ \t]*\n?\n?"
    r"|<!--[ \t]{0,9}more[ \t]{0,9}-->",
    re.MULTILINE,
)
ARGUMENT = re.compile(
    r"""(?:([\w-]+) ?[=:](?!//) ?)?(?:"([^"]*)"|'([^']*)'|`([^`]*)`|([^\s"'`=]+))"""
)
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
# The patterns of closing tags.
HUGO_END = r"\{{\{{[<%] *\/ *{} *[>%]\}}\}}"
LIQUID_END = r"\{{%-? *end{} *-?%\}}"
NAME_MAX = 30  # characters of a tag's name in the report
CODE = {"highlight", "codeblock", "code"}
PICTURES = {"figure", "img", "image", "picture", "asset_img"}
PAGES = {  # of what is embedded: the words of the link, and its address
    "youtube": ("Video on YouTube", "https://www.youtube.com/watch?v={}"),
    "vimeo": ("Video on Vimeo", "https://vimeo.com/{}"),
    "gist": ("Code on GitHub", "https://gist.github.com/{}/{}"),
    "tweet": ("Post on X", "https://x.com/{}/status/{}"),
    "instagram": ("Picture on Instagram", "https://www.instagram.com/p/{}/"),
}
LINKS = {"ref", "relref", "post_url", "post_link", "post_path", "link"}  # to another file
SITE_URL = re.compile(r"(?:site\.(?:base)?url|site\.github\.url)\s*(?:\|.*)?", re.DOTALL)
QUOTED = re.compile(r"""(?:"([^"]*)"|'([^']*)')\s*(?:\|.*)?""", re.DOTALL)
Ranges = list[tuple[int, int]]


def code_ranges(text: str) -> Ranges:
    """Where code begins and ends in a Markdown text: blocks with fences, and spans in a line."""
    ranges: Ranges = []
    opening = None
    for match in FENCE.finditer(text):
        mark = match[1]
        if not opening and not (mark[0] == "`" and "`" in match[2]):
            opening = match
        elif opening and mark.startswith(opening[1]) and not match[2].strip():
            ranges.append((opening.start(), match.end()))
            opening = None
    if opening:
        ranges.append((opening.start(), len(text)))
    edges = [0, *[edge for pair in ranges for edge in pair], len(text)]
    gaps = list(pairwise(edges))[::2]
    return sorted([*ranges, *[pair for start, end in gaps for pair in _spans(text, start, end)]])


def _spans(text: str, start: int, end: int) -> Ranges:
    """The spans of code in a part of a text: from one run of backticks to the next as long."""
    runs = [match.span() for match in re.compile("`+").finditer(text, start, end)]
    next_run: dict[int, int] = {}  # by length
    partners = []
    for number in range(len(runs) - 1, -1, -1):
        length = runs[number][1] - runs[number][0]
        partners.append(next_run.get(length))
        next_run[length] = number
    partners.reverse()
    ranges, number = [], 0
    while number < len(runs):
        partner = partners[number]
        # A span ends with its paragraph.
        if partner and text.find("\n\n", runs[number][1], runs[partner][0]) < 0:
            ranges.append((runs[number][0], runs[partner][1]))
            number = partner
        number += 1
    return ranges


def sub_outside_code(
    pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str], text: str
) -> str:
    """As `pattern.sub`, but code stays as it is."""
    if not pattern.search(text):
        return text
    ranges = code_ranges(text)

    def replaced(match: re.Match[str]) -> str:
        return match[0] if _end_of_code(ranges, match.start()) else replace(match)

    return pattern.sub(replaced, text)


def count_outside_code(pattern: re.Pattern[str], text: str) -> int:
    """How often the pattern is in the text, but not in its code."""
    ranges = code_ranges(text)
    return sum(not _end_of_code(ranges, match.start()) for match in pattern.finditer(text))


def _end_of_code(ranges: Ranges, at: int) -> int:
    """Where the code around a position ends; 0 if there is none."""
    number = bisect_right(ranges, at, key=itemgetter(0)) - 1
    end = ranges[number][1] if number >= 0 else 0
    return end if at < end else 0


def to_markdown(text: str, location: str, report: Report, address_of: Callable[[str], str]) -> str:
    """The text with Markdown in place of known template tags; the others stay, and are counted.

    `address_of` returns the address of the file that a tag names.
    """
    if "{" not in text and "<!--" not in text:
        return text
    return _Text(text, location, report, address_of).convert()


class _Text:
    """One text, and how far it is converted."""

    def __init__(
        self, text: str, location: str, report: Report, address_of: Callable[[str], str]
    ) -> None:
        self.text, self.location, self.report = text, location, report
        self.address_of = address_of
        self.ranges = code_ranges(text)
        self.at = 0  # the end of the last tag
        # Patterns of closing tags that are not below, as far as they were looked for.
        self.never: set[tuple[str, int]] = set()

    def convert(self) -> str:
        """The text in Markdown."""
        parts = []
        for match in TOKEN.finditer(self.text):
            if match.start() < self.at:
                continue
            parts.append(self.text[self.at : match.start()])
            self.at = match.end()
            parts.append(self._converted(match))
        return "".join([*parts, self.text[self.at :]])

    def _converted(self, match: re.Match[str]) -> str:
        end_of_code = _end_of_code(self.ranges, match.start())
        if match["hugo"]:
            inner = match["hugo"][1:-1].strip()
            if inner.startswith("/*") and inner.endswith("*/"):  # Hugo shows such a tag, also code
                opening, closing = match["hugo"][0], match["hugo"][-1]
                return f"{{{{{opening} {inner[2:-2].strip()} {closing}}}}}"
            return match[0] if end_of_code else self._tag(match[0], inner, HUGO_END)
        if match["liquid"] is not None:
            inner = match["liquid"].strip("- \n\t")
            if inner == "raw":
                # What Liquid leaves as it is; code may also only speak of that tag.
                text = self._until(LIQUID_END.format("raw"), end_of_code)
                return match[0] if text is None else text
            return match[0] if end_of_code else self._tag(match[0], inner, LIQUID_END)
        if end_of_code:
            return match[0]
        if match["output"] is not None:
            return self._output(match[0], match["output"].strip("- \n\t"))
        if "<!--" not in match[0]:
            self.report.change(self.location, "marks of style like {: .x} (dropped)")
        return ""

    def _until(self, closing: str, end: int = 0) -> str | None:
        """The text up to a closing tag, which is passed; None if there is none before the end."""
        end = end or len(self.text)
        if (closing, end) in self.never:
            return None
        match = re.compile(closing).search(self.text, self.at, end)
        if not match:
            self.never.add((closing, end))
            return None
        inner, self.at = self.text[self.at : match.start()], match.end()
        return inner

    def _output(self, whole: str, inner: str) -> str:
        """Liquid's `{{ }}`: an address of the site, or a text in quotes."""
        if SITE_URL.fullmatch(inner):
            return ""
        if match := QUOTED.fullmatch(inner):
            return match[1] or match[2] or ""
        self.report.change(self.location, "tags {{ }} (now text)")
        return whole

    def _tag(self, whole: str, inner: str, closing: str) -> str:
        """A tag with a name; `closing` is the pattern of the one that closes it, but its name."""
        name, plain, named = _arguments(inner)
        if name == "comment":  # of Liquid
            return "" if self._until(closing.format(name)) is not None else whole
        if name in CODE:
            code = self._until(closing.format(name))
            if code is not None:
                return _fenced(code, [*plain, named.get("lang", "")][0])
        if name in LINKS and plain:
            return self.address_of(plain[0])
        made = _picture(plain, named) if name in PICTURES else _embedded(name, plain, named)
        if not made and not name.startswith(("/", "end")):
            self.report.change(self.location, f"tags “{name[:NAME_MAX]}” (now text)")
        return made or whole


def _arguments(inner: str) -> tuple[str, list[str], dict[str, str]]:
    """The name of a tag, its arguments without names, and those with names."""
    name, _, rest = " ".join(inner.removesuffix("/").split()).partition(" ")
    plain, named = [], {}
    for match in ARGUMENT.finditer(rest):
        value = next(filter(None, match.groups()[1:]), "")
        if match[1]:
            named[match[1]] = value
        else:
            plain.append(value)
    return name, plain, named


def _embedded(name: str, plain: list[str], named: dict[str, str]) -> str:
    """A link to what is embedded; "" for an unknown tag."""
    words, address = PAGES.get(name, ("", ""))
    ids = [*plain, *[named[key] for key in ("user", "id") if key in named]]
    return f"[{words}]({address.format(*ids)})" if words and len(ids) >= address.count("{}") else ""


def _fenced(code: str, language: str) -> str:
    """A block of code, in a fence that its own backticks do not close."""
    longest = max(map(len, re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    language = re.sub(r"[^\w+#.-]", "", language.removeprefix("lang:"))
    return f"{fence}{language}\n{code.strip(chr(10))}\n{fence}"


def _picture(plain: list[str], named: dict[str, str]) -> str:
    """A picture, with its caption below; "" for one without an address."""
    address = named.get("src") or [*plain, ""][0]
    if not address:
        return ""
    caption = named.get("caption") or named.get("title") or " ".join(plain[1:])
    words = named.get("alt") or caption
    below = f"\n\n*{caption}*" if caption and words != caption else ""
    return f"{markdown_image(words, address)}{below}"
