"""WordPress's shortcodes, such as `[gallery ids="5,6"]`, to HTML."""

import html
import re
from collections.abc import Callable, Sequence

from porting.records import Report

SHORTCODE = re.compile(
    r"<(?P<raw>pre|code)\b|\[(?P<escaped>\[?)(?P<close>/?)(?P<name>[a-z][\w-]*+)"
    r"(?P<attributes>[\s=:/][^\[\]]*+)?\]",
    re.IGNORECASE,
)
ATTRIBUTE = re.compile(r"(?<![\w-])([\w-]++)\s*+=\s*+(?:\"([^\"]*)\"|'([^']*)'|([^\s\"']+))")
ADDRESS = re.compile(r"https?://[^\s\"'<>]+")
QUOTES = str.maketrans("\u201c\u201d\u201e\u2033\u2018\u2019\u2032", '""""\'\'\'')
# Code, in an attribute's language, or in that of the name.
CODE = {"code", "sourcecode", "source", "cc", "crayon"}
LANGUAGES = set(
    "as3 bash c clojure cpp csharp css delphi diff erlang fsharp go groovy haskell html java "
    "javafx javascript js jscript json matlab objc perl php plain powershell py python r rails rb "
    "ruby scala shell sql swift text ts typescript vb vbnet xml yaml".split()
)
# They show what is at an address.
EMBEDS = set(
    "embed youtube vimeo dailymotion soundcloud spotify tweet twitter instagram facebook gist "
    "flickr slideshare tiktok ted googlevideo googlemaps kickstarter twitch-tv wpvideo".split()
)
KNOWN = {*CODE, *LANGUAGES, *EMBEDS, "audio", "caption", "gallery", "video", "wp_caption"}
EMBED_MAX = 2_000  # characters in which its address is looked for
CLOSE = re.compile(r"\[/([a-z][\w-]*+)\]|</(pre|code)\b")
# A picture, maybe in a link, before the words of a caption.
PICTURE = re.compile(r"(?is)\s*(?:<a\b[^>]*>\s*)?<img\b[^>]*>(?:\s*</a>)?")
# The pictures with these ids, or all of the post without ids, as HTML.
Pictures = Callable[[Sequence[str]], Sequence[str]]


def to_html(text: str, report: Report, location: str, pictures: Pictures) -> str:
    """The text with HTML instead of shortcodes; unknown ones stay, and are counted by name."""
    shortcodes = _Shortcodes(text, report, location, pictures)
    parts, position = [], 0
    while match := SHORTCODE.search(text, position):
        parts.append(text[position : match.start()])
        part, position = shortcodes.expand(match)
        parts.append(part)
    return "".join([*parts, text[position:]])


class _Shortcodes:
    """The shortcodes of one text."""

    def __init__(self, text: str, report: Report, location: str, pictures: Pictures) -> None:
        self.text, self.lower = text, text.lower()
        self.report, self.location, self.pictures = report, location, pictures
        # Looked for once: a hostile text may open thousands that are never closed.
        self.last_close = {match[0]: match.start() for match in CLOSE.finditer(self.lower)}

    def expand(self, match: re.Match[str]) -> tuple[str, int]:
        """The HTML for what is found there, and where the text goes on."""
        start, end = match.span()
        if match["raw"]:
            close = self._close(f"</{match['raw'].lower()}", end)
            return (match[0], end) if close < 0 else (self.text[start:close], close)
        name, close_mark = match["name"].lower(), f"[/{match['name'].lower()}]"
        close = self._close(close_mark, end)
        after = end if close < 0 else close + len(close_mark)
        if match["escaped"] and name not in KNOWN:
            return match[0], end
        if match["escaped"]:  # a shortcode in brackets is only shown
            for stop in (end, after):
                if self.text[stop : stop + 1] == "]":
                    return self.text[start + 1 : stop], stop + 1
            return "[", start + 1
        if match["close"]:
            return match[0], end
        attributes = html.unescape(match["attributes"] or "").translate(QUOTES)
        content = self.text[end:close] if close >= 0 else ""
        expanded = self._html(name, attributes, content)
        if expanded:
            return expanded, end if name == "gallery" else after
        if "=" in attributes or close >= 0 or re.search("[-_]", name):
            self.report.change(self.location, f"shortcodes left as text ([{name[:30]}])")
        return match[0], end

    def _close(self, mark: str, position: int) -> int:
        """Where it is closed after that position; -1 if it is not."""
        is_closed = self.last_close.get(mark, -1) >= position
        return self.lower.find(mark, position) if is_closed else -1

    def _html(self, name: str, attributes: str, content: str) -> str:
        """The HTML instead of a shortcode; "" for what is unknown."""
        values = {found[0].lower(): "".join(found[1:]) for found in ATTRIBUTE.findall(attributes)}
        if name in CODE | LANGUAGES and content:
            language = values.get("language") or values.get("lang") or ""
            return _code(content, language if name in CODE else name)
        if name in ("caption", "wp_caption") and content:
            return _figure(content, values.get("caption", ""))
        if name == "gallery":
            return self._gallery(re.findall("[0-9]+", values.get("ids", values.get("include", ""))))
        address = ADDRESS.search(attributes)
        if not address and name in EMBEDS:
            address = ADDRESS.search(content, 0, EMBED_MAX)
        if address and name in EMBEDS:
            self.report.change(self.location, "embedded media (now links)")
            url = html.escape(html.unescape(address[0]))
            return f'\n\n<a href="{url}">{url}</a>\n\n'
        if address and name in ("audio", "video"):
            return f'\n\n<{name} src="{html.escape(address[0])}"></{name}>\n\n'
        return ""

    def _gallery(self, ids: list[str]) -> str:
        found = self.pictures(ids)
        missing = max(len(ids), 1) - len(found)
        if missing > 0:
            what = "pictures of galleries (not in the file)"
            self.report.leave_out(self.location, what, missing)
        return "\n\n".join(["", *found, ""])


def _code(content: str, language: str) -> str:
    """Code, which is stored escaped or not."""
    code = html.escape(html.unescape(content))
    if "\n" not in code:
        return f"<code>{code}</code>"
    return f'\n\n<pre lang="{html.escape(language)}">{code}</pre>\n\n'


def _figure(content: str, caption: str) -> str:
    """A picture with its caption: the words behind the picture, or those in an attribute."""
    picture = PICTURE.match(content)
    end = picture.end() if picture else 0
    words = content[end:].strip() or html.escape(caption)
    return f"\n\n<figure>{content[:end]}<figcaption>{words}</figcaption></figure>\n\n"
