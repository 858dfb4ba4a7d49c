"""Reads XML that is not quite XML, as blogs export it, a part at a time."""

import codecs
import html
import re
from collections.abc import Iterator
from typing import BinaryIO

CHUNK = 1024 * 1024  # bytes that are read at once, a step of the progress bar
DECLARED = re.compile(rb"<\?xml[^>]{1,100}?encoding=[\"']([\w.-]{1,40})[\"']")
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
BAD_BYTE = re.compile("[\udc80-\udcff]")  # how Python decodes a byte that is not in the encoding
CDATA = re.compile(r"(<!\[CDATA\[|\]\]>)")
REFERENCE = re.compile(r"&(?:(#\w{1,8}|\w{1,8});)?")
NAMED = {"amp", "lt", "gt", "quot", "apos"}  # what XML has without a DOCTYPE


class RepairedXML:
    """The text of an XML file, and how many repairs were made in what was read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.repairs = 0
        self._file = file
        self._in_cdata = False  # where & is a character like others
        start = file.read(CHUNK)
        self._decoder = codecs.getincrementaldecoder(_encoding(start))("surrogateescape")
        self._rest = self._from_declaration(self._decoder.decode(start))

    def chunks(self) -> Iterator[str]:
        """The text, cut after a `>`, so that no reference and no mark of CDATA is cut in two."""
        text = self._rest
        while content := self._file.read(CHUNK):
            cut = text.rfind(">") + 1 or len(text)
            yield self._repaired(text[:cut])
            text = text[cut:] + self._decoder.decode(content)
        yield self._repaired(text + self._decoder.decode(b"", final=True))

    def _from_declaration(self, text: str) -> str:
        """The text without what stands before its declaration: blank lines, warnings of PHP."""
        before, declaration, after = text.partition("<?xml")
        if not declaration or "<rss" in before:
            return text.lstrip("\ufeff \t\r\n")
        self.repairs += before not in ("", "\ufeff")
        return declaration + after

    def _repaired(self, text: str) -> str:
        text, bad_bytes = BAD_BYTE.subn(_in_windows_1252, text)
        text, controls = NOT_IN_XML.subn("", text)
        self.repairs += bad_bytes + controls
        parts = CDATA.split(text)
        for index, part in enumerate(parts):
            if part in ("<![CDATA[", "]]>"):
                self._in_cdata = part == "<![CDATA["
            elif not self._in_cdata:
                parts[index] = REFERENCE.sub(self._repaired_reference, part)
        return "".join(parts)

    def _repaired_reference(self, match: re.Match[str]) -> str:
        name = match[1] or ""
        character = html.unescape(match[0]) if name.startswith("#") else ""
        if name in NAMED or (character not in ("", "\ufffd", match[0])):
            return match[0]
        self.repairs += 1
        # A number that no character has; or a bare &, or a name that only HTML has.
        return "" if name.startswith("#") else f"&amp;{match[0][1:]}"


def _encoding(start: bytes) -> str:
    """The encoding that the declaration names; UTF-8 without one, or if it is unknown."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    declared = DECLARED.search(start[:1000])
    name = declared[1].decode() if declared else "utf-8"
    try:
        is_known = "<?xml".encode(name) == b"<?xml"
    except (LookupError, ValueError):
        is_known = False
    return name if is_known else "utf-8"


def _in_windows_1252(match: re.Match[str]) -> str:
    """What the byte means in the encoding that is mixed with UTF-8 most often."""
    return bytes([ord(match[0]) - 0xDC00]).decode("cp1252", "replace")
