"""The fields of a post, from the names that other blogs give them in front matter."""

import re
import zlib
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from core.pagination import EPOCH, NEVER
from core.rendering import plain_text
from extras.pictures import markdown_image
from porting.files import SourceFile
from porting.front_matter import iso_date, plain_names
from porting.records import Fields, Report

# Date and slug, as Jekyll names files.
FILE_NAME = re.compile(r"(\d{4}-\d\d-\d\d)?-?(.*)\.(?:md|markdown)", re.IGNORECASE)
# Names as `plain_names` has them; of several, the first that has a value.
PUBLISHED = (
    "date pubdate publishdate publisheddate datepublished published publishedat publishedon"
    " posted postedat postdate dateposted datetime"
    " created createdat createdon createdate createddate datecreated creationdate"
).split()
UPDATED = (
    "updated updatedat updateddate dateupdated lastmod lastmodified lastmodifiedat modified"
    " modifiedat modifieddate datemodified lastupdated lastupdatedat"
).split()
LEAD_PICTURES = (
    "image cover coverimage featuredimage featureimage featuredimg heroimage thumbnail banner"
).split()
SUMMARIES = ["description", "summary", "excerpt", "subtitle", "abstract"]
ADDRESSES = ["url", "permalink", "slug", "aliases", "redirectfrom"]
BOOLEANS = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
DRAFT = {
    *[(name, "true") for name in ("draft", "isdraft", "wip")],
    *[(name, "false") for name in ("published", "publish", "ispublished")],
    *[(name, value) for name in ("state", "status") for value in ("draft", "unpublished")],
}
# What the readers of that blog could not see, or not find.
HIDDEN = {
    *[(name, "true") for name in "hidden ishidden private isprivate unlisted headless".split()],
    *[(name, "false") for name in "public ispublic visible isvisible listed render".split()],
    *[
        (name, value)
        for name in ("state", "status", "visibility")
        for value in "archived hidden pending private protected trash unlisted".split()
    ],
}
PAGE = {("ispage", "true"), ("layout", "page"), ("type", "page"), ("posttype", "page")}


def parse(file: SourceFile, front_matter: Fields | None, body: str, report: Report) -> Fields:
    """The fields of the post in a file."""
    location, names = str(file.path), plain_names(front_matter or {})
    # A text without a date gets a moment of 1970, by which a repeat knows it from all others.
    moment = EPOCH + timedelta(microseconds=zlib.crc32(body.encode()))
    date = _date(names) or FILE_NAME.findall(file.path.name)[0][0]
    title, text = _title(names, file, body)
    text = _lead_picture(names, text) + text
    if not text.strip():
        raise ValueError("it has no body")
    fields: Fields = {"created_at": date or moment, "title": title, "body": text}
    if front_matter is None and not date and file.modified_at:
        date = file.modified_at
        report.change(location, "posts (now with the time of their file: no front matter)")
    is_published = _is_published(names, date, file, report)
    fields["published_at"] = date if is_published else NEVER
    fields["publish_at"] = None if is_published else date or None
    fields["updated_at"] = iso_date(_first(names, UPDATED)) or None
    if fields["updated_at"] and not _moment(fields["updated_at"]):
        report.leave_out(location, "times of changes (cannot be read)")
        fields["updated_at"] = None
    fields["is_page"] = _is(names, PAGE)
    fields["comments_closed"] = _is(names, {("comments", "false")})
    fields["tags"] = _tags(names)
    fields["authors"] = texts(names.get("author") or names.get("authors"))
    summaries = [summary for name in SUMMARIES for summary in texts(names.get(name))]
    if any(summary not in text for summary in summaries):
        report.leave_out(location, "summaries")
    return fields


def addresses(file: SourceFile, front_matter: Fields | None) -> list[str]:
    """Where the source showed the post, as far as the file says it."""
    names = plain_names(front_matter or {})
    day, slug = FILE_NAME.findall(file.path.name)[0]
    # Those with a colon are whole URLs, or patterns of Jekyll.
    given = [text for name in ADDRESSES for text in texts(names.get(name))]
    given = [text for text in given if ":" not in text or "://" in text]
    path = str(file.path.with_suffix("")).removeprefix("content/").removesuffix("/index")
    found = [path, *given]
    if day:
        found += [f"{day.replace('-', '/')}/{slug}", f"{day.replace('-', '/')}/{slug}.html"]
    paths = [text if "://" in text else f"/{text.strip('/')}" for text in found]
    return list(dict.fromkeys([address_of(file), *paths]))


def address_of(file: SourceFile) -> str:
    """The address by which texts of the same import link to a file."""
    path = quote(str(file.path), errors="replace")
    return f"/{path}"


def texts(value: object) -> list[str]:
    """The texts in a list, or a single one; of what has fields, its name."""
    values = value if isinstance(value, list) else [value]
    named = [item.get("name", "") if isinstance(item, dict) else item for item in values]
    return [str(item).strip() for item in named if item not in (None, "")]


def _first(names: Fields, wanted: list[str]) -> object:
    """The first value that is there; "" if there is none."""
    return next((names[name] for name in wanted if names.get(name)), "")


def _is(names: Fields, pairs: set[tuple[str, str]]) -> bool:
    """Whether one of the pairs of a name and a value is there."""
    found = {(name, str(value).strip().lower()) for name, value in names.items()}
    return not pairs.isdisjoint({(name, BOOLEANS.get(value, value)) for name, value in found})


def _date(names: Fields) -> str:
    """When it was or will be published; "" if that is not said."""
    values = [names.get(name) for name in PUBLISHED]
    dates = [iso_date(value) for value in values if value and not isinstance(value, dict | list)]
    date = next((date for date in dates if date.lower() not in ("true", "false")), "")
    # In Hugo, a post may have a date, and be published later.
    later = iso_date(names.get("publishdate", ""))
    at = _moment(later)
    return later if at and at > datetime.now(UTC) else date


def _moment(date: str) -> datetime | None:
    """The time that a text says; None if it says none."""
    try:
        at = datetime.fromisoformat(date)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _is_published(names: Fields, date: str, file: SourceFile, report: Report) -> bool:
    """Whether it becomes more than a draft; a draft that was none is reported."""
    if _is(names, DRAFT) or "_drafts" in file.path.parts:
        return False
    expiry = _moment(iso_date(names.get("expirydate", "")))
    is_over = expiry is not None and expiry <= datetime.now(UTC)
    reason = ""
    if _is(names, PAGE):
        reason = "pages (now drafts)"
    elif _is(names, HIDDEN) or names.get("password") or is_over:
        reason = "hidden posts (now drafts)"
    elif not date:
        reason = "posts (now drafts: they have no date)"
    if reason:
        report.change(str(file.path), reason)
    return not reason


def _title(names: Fields, file: SourceFile, body: str) -> tuple[object, str]:
    """The title, which may be the heading of the text or the file's name, and the text below it."""
    if names.get("title") is not None:
        return names["title"], body
    heading, below = _heading(body)
    if heading:
        return heading, below
    name = FILE_NAME.findall(file.path.name)[0][1]
    if name == "index":
        name = file.path.parent.name  # in Hugo, a post may be a folder
    # The name of a file may contain bytes that are not valid text.
    return name.replace("-", " ").encode(errors="replace").decode(), body


def _heading(body: str) -> tuple[str, str]:
    """The heading with which a text begins, and the text below; "" if it begins otherwise."""
    first, _, below = body.lstrip("\n").partition("\n")
    if first.startswith("# "):
        return plain_text(first), below.lstrip("\n")
    line, _, rest = below.partition("\n")
    if line and not line.strip("=") and first.strip():
        return plain_text(first), rest.lstrip("\n")
    return "", body


def _tags(names: Fields) -> list[str]:
    """The names of tags and categories: Jekyll's have spaces between them, or commas."""
    taxonomies = names.get("taxonomies")
    zola = plain_names(taxonomies) if isinstance(taxonomies, dict) else {}
    found = []
    for fields in (names, zola):
        for value in (fields.get("tags"), fields.get("categories")):
            if isinstance(value, str):
                value = value.split("," if "," in value else None)
            found += texts(value)
    for name in ("tag", "category"):
        value = names.get(name)
        found += texts(value.split(",") if isinstance(value, str) else value)
    return found


def _lead_picture(names: Fields, body: str) -> str:
    """The picture that the source shows above the text, unless that shows it itself."""
    value = _first(names, LEAD_PICTURES)
    words = names.get("imagealt") or names.get("coveralt") or ""
    if isinstance(value, dict):
        words = value.get("alt") or value.get("caption") or words
        value = _first(value, ["url", "src", "image", "path", "feature"])
    if not isinstance(value, str) or not re.search("[./]", value) or value in body:
        return ""
    return f"{markdown_image(str(words), value)}\n\n"
