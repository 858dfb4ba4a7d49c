"""The front matter of a Markdown file, in YAML, TOML or JSON, and the ways to write a date there.

It is parsed here and not with python-frontmatter, which raises on colons, reads 1984 as a number
and "no" as false, and expands aliases without limit.
"""

import json
import re
import tomllib

import yaml

from porting.records import Fields

FRONT_MATTER_MAX = 10_000  # characters; our exports need 800
BRACKETS_MAX = 200  # in front matter; a parser needs seconds for thousands that are nested
DATE_MAX = 100  # characters; JavaScript's, which name the zone in words, have 70
# Delimiter, front matter and body: YAML between `---`, TOML between `+++`.
FRONT_MATTER = re.compile(r"(---|\+\+\+)[ \t]*\n((?:.*\n)*?)\1[ \t]*(?:\n\n?|\Z)([\s\S]*)")
# The same three groups; JSON is its own delimiter, so the first is empty.
JSON_FRONT_MATTER = re.compile(r"()(\{\n(?:.*\n)*?\})[ \t]*(?:\n\n?|\Z)([\s\S]*)")
UNFINISHED = re.compile(r"(?:---[ \t]*\n[\w-]+:|\+\+\+[ \t]*\n[\w-]+ *=)")
# Hexo leaves out the first delimiter. A Markdown text may begin like that as well, so that one of
# the names has to be the title or the date.
NAME_LINE = re.compile(r"[A-Za-z_][\w-]*:(?:[ \t].*)?")
# A line of YAML with a text on it, not with a list, names, or a text of several lines.
SCALAR_LINE = re.compile(r"([\w-]+):[ \t]+([^\s\[{|>].*)")
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
TIME = (
    r"(?:(?:T|,? (?:at )?)(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d+)?))?"
    r"(?: ?(?P<half>[AaPp])[Mm])?)?(?: ?(?P<utc>Z|UTC|GMT))?(?: ?(?P<offset>[+-]\d\d:?\d\d))?"
    r"(?: \(?[A-Za-z ]+\)?)?"
)
DATES = [
    re.compile(rf"(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}}){TIME}"),
    # RFC 5322 §3.3, and as people write it: "Fri, 01 Mar 2024", "1 March 2024".
    re.compile(
        r"(?:[A-Za-z]{3,9},? )?(?P<day>\d{1,2})(?:st|nd|rd|th)? (?P<month>[A-Za-z]{3,9})[.,]? "
        rf"(?P<year>\d{{4}}){TIME}"
    ),
    # "March 1, 2024", and JavaScript's "Fri Mar 01 2024".
    re.compile(
        r"(?:[A-Za-z]{3,9},? )?(?P<month>[A-Za-z]{3,9})\.? (?P<day>\d{1,2})(?:st|nd|rd|th)?,? "
        rf"(?P<year>\d{{4}}){TIME}"
    ),
]


def split(text: str) -> tuple[Fields | None, str]:
    """The front matter of a file, None where there is none, and the text below it."""
    text = text.removeprefix("\ufeff")
    match = FRONT_MATTER.fullmatch(text) or JSON_FRONT_MATTER.fullmatch(text)
    if match:
        delimiter, front_matter, body = match.groups()
        fields = _parse(delimiter, front_matter)
        return (None, text) if fields is None else (fields, body)
    if UNFINISHED.match(text):
        raise ValueError("its front matter has no end")
    front_matter, delimiter, body = text.partition("\n---\n")
    if delimiter and _has_names(front_matter):
        return _parse("---", front_matter), body.removeprefix("\n")
    return None, text


def plain_names(front_matter: Fields) -> Fields:
    """The same fields, with names in lower case and without what separates their words."""
    names = [(re.sub("[^a-z]", "", name.lower()), name) for name in reversed(front_matter)]
    return {plain: front_matter[name] for plain, name in names}


def iso_date(value: object) -> str:
    """A date as ISO 8601 has it, if it is written in one of `DATES`; another text as it is."""
    text = " ".join(str(value).split())
    if len(text) > DATE_MAX:
        return text
    match = next(filter(None, (pattern.fullmatch(text) for pattern in DATES)), None)
    if not match:
        return text
    month = match["month"]
    if not month.isdigit():
        if month[:3].lower() not in MONTHS:
            return text
        month = str(MONTHS.index(month[:3].lower()) + 1)
    day = f"{match['year']}-{month:0>2}-{match['day']:0>2}"
    if not match["hour"]:
        return day
    hour = int(match["hour"])
    if match["half"]:
        hour = hour % 12 + (12 if match["half"] in "Pp" else 0)
    offset = match["offset"] or ("Z" if match["utc"] else "")
    return f"{day}T{hour:02}:{match['minute']}:{match['second'] or '00'}{offset}"


def _has_names(front_matter: str) -> bool:
    """Whether each line is a name with its value, or belongs to the one above, as Hexo has it."""
    lines = front_matter.split("\n") if len(front_matter) <= FRONT_MATTER_MAX else []
    names = [line for line in lines if NAME_LINE.fullmatch(line)]
    others = [line for line in lines if line.strip() and not NAME_LINE.fullmatch(line)]
    is_named = any(name.startswith(("title:", "date:")) for name in names)
    return is_named and lines[0] in names and all(line[0] in " \t-" for line in others)


def _parse(delimiter: str, front_matter: str) -> Fields | None:
    """The fields; None if there is only a text between two thematic breaks."""
    if len(front_matter) > FRONT_MATTER_MAX:
        raise ValueError(f"its front matter is longer than {FRONT_MATTER_MAX:,} characters")
    if len(re.findall(r"[\[{]", front_matter)) > BRACKETS_MAX:
        raise ValueError(f"its front matter has more than {BRACKETS_MAX} brackets")
    if not delimiter:
        fields = json.loads(front_matter)
    elif delimiter == "+++":
        fields = tomllib.loads(front_matter)
    else:
        try:
            fields = _load_yaml(front_matter)
        except yaml.YAMLError:
            fields = _load_yaml("\n".join(map(_quoted, front_matter.split("\n"))))
    if not isinstance(fields, dict | str):
        raise ValueError("its front matter has no names")
    if isinstance(fields, dict):
        return {str(name): value for name, value in fields.items()}
    return None if fields.strip() else {}


def _load_yaml(front_matter: str) -> object:
    """What the YAML says, with texts for all scalars; an empty text for nothing."""
    # Aliases of aliases grow exponentially. To look for them takes as long as the rest.
    events = yaml.parse(front_matter) if "*" in front_matter else []
    if any(isinstance(event, yaml.AliasEvent) for event in events):
        raise ValueError("its front matter has aliases")
    # BaseLoader is safe, for it makes no objects, and leaves scalars as text: "1984", "no".
    fields = yaml.load(front_matter, yaml.BaseLoader)
    return "" if fields is None else fields


def _quoted(line: str) -> str:
    """The line, its value in quotes if that is no YAML without: `title: Notes: part 2`."""
    match = SCALAR_LINE.fullmatch(line)
    if not match:
        return line
    try:
        yaml.load(line, yaml.BaseLoader)
    except yaml.YAMLError:
        value = match[2].strip().replace("'", "''")
        return f"{match[1]}: '{value}'"
    return line
