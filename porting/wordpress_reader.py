"""Reads a WordPress export: RSS with additional elements of WordPress (WXR)."""

import html
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder, XMLParser

from core.pagination import NEVER
from porting import shortcodes
from porting.html_to_markdown import Converter
from porting.records import ExternalUser, Progress, Record, Report, UnsupportedError, no_progress
from porting.xml_repair import CHUNK, RepairedXML

STATUSES = {"publish", "future", "draft", "pending", "private"}  # of the posts that are imported
COMMENT_STATES = {"1": "shown", "0": "pending"}  # by "approved"; others are spam or trash
HTML_MAX = 1_000_000  # characters of HTML that become Markdown
NAMELESS = "Anonymous"  # who comments without a name; no account can have it as its name
# In titles; others, such as <Jerry>, are words.
TITLE_TAG = re.compile(
    r"</?(?:a|abbr|b|big|br|cite|code|del|em|font|i|img|ins|q|s|small|span|strong|sub|sup|u)"
    r"\b[^<>]*>",
    re.IGNORECASE,
)
PICTURE = re.compile(r"\.(?:avif|bmp|gif|jpe?g|png|svg|webp)\Z", re.IGNORECASE)  # of its URL
ONLY_ADDRESS = re.compile(r"(?m)^[ \t]*https?://[^\s<>]+[ \t]*$")  # WordPress shows what is there
DYNAMIC_BLOCK = re.compile(r"<!-- wp:([\w/-]{1,60}+)[^<>]*/-->")  # without any HTML in the file
Texts = defaultdict[str, str]  # of the elements in an element, by tag; "" for what it lacks
Users = dict[str, ExternalUser]  # by their ids in WordPress


class Uploads:
    """The pictures of the old blog, by id and by the post that they were uploaded for."""

    def __init__(self) -> None:
        self.images: dict[str, str] = {}  # as HTML
        self.ids_by_post = defaultdict[str, list[str]](list)

    def add(self, texts: Texts) -> None:
        """Remember the item, if it is a picture."""
        url = texts["attachment_url"]
        if texts["post_type"] != "attachment" or not PICTURE.search(url):
            return
        words = texts["meta _wp_attachment_image_alt"] or texts["excerpt"]
        self.images[texts["post_id"]] = f'<img src="{html.escape(url)}" alt="{html.escape(words)}">'
        self.ids_by_post[texts["post_parent"]].append(texts["post_id"])

    def of_gallery(self, post_id: str, ids: Sequence[str]) -> list[str]:
        """Those with these ids, or all of the post; without those that are not in the file."""
        found = [self.images.get(id, "") for id in ids or self.ids_by_post[post_id]]
        return list(filter(None, found))


def check(path: Path) -> Uploads:
    """The uploads that the whole file names, which posts before them show.

    ValueError, with a sentence, or ParseError if this is no WordPress export.
    """
    uploads = Uploads()
    for _, texts, _ in _entries(path, Report(), no_progress):
        uploads.add(texts)
    return uploads


def records(
    path: Path, uploads: Uploads, author: str, report: Report, progress: Progress
) -> Iterator[Record]:
    """The authors, and the posts with their comments; `author` is for posts that name none."""
    users: Users = {}
    converter = Converter(report)
    for location, texts, comments in _entries(path, report, progress):
        if texts["author_login"]:
            user = ExternalUser(texts["author_login"], texts["author_display_name"])
            users[texts["author_id"]] = user
            _count_address(location, texts["author_email"], report)
            yield Record(location, "accounts", {}, user)
            continue
        if texts["post_type"] == "attachment":
            report.not_fetched.append(f"{location}: {texts['attachment_url']} was not fetched.")
            continue
        post = None
        with report.skipping(location):
            post = _post(location, texts, author, converter, uploads)
            yield post
        names: dict[str, str] = {}  # of the commenters, by the id of the comment
        for number, comment in enumerate(comments, start=1):
            location_of_comment = f"{location}, comment {number}"
            with report.skipping(location_of_comment):
                yield _comment(location_of_comment, comment, post, users, names, converter)


def _entries(
    path: Path, report: Report, progress: Progress
) -> Iterator[tuple[str, Texts, list[Texts]]]:
    """The location, texts and comments of each author and item, a part of the file at a time."""
    builder = _Builder()
    parser = XMLParser(target=builder)
    numbers = Counter[str]()
    with path.open("rb") as file:
        xml = RepairedXML(file)
        for text in progress(xml.chunks(), "MiB", len(range(0, path.stat().st_size, CHUNK))):
            parser.feed(text)
            for element in builder.complete:
                tag, texts = _local_name(element), _texts(element)
                numbers[tag] += 1
                title = texts["title"] or texts["author_login"]
                texts["number"] = str(numbers[tag])
                location = f"{tag} {numbers[tag]} (“{title[:40]}”)"
                yield location, texts, [_texts(part) for part in element.iterfind("{*}comment")]
                element.clear()  # to free its memory
            builder.complete.clear()
    if parser.close().find("channel/{*}wxr_version") is None:
        raise ValueError("This is neither a zip nor a WordPress export.")
    if xml.repairs:
        report.change(path.name, "errors of the XML (repaired)", xml.repairs)


class _Builder(TreeBuilder):
    """Collects complete authors and items. Refuses a DOCTYPE, whose entities may grow endlessly."""

    def __init__(self) -> None:
        super().__init__()
        self.complete: list[Element] = []

    def doctype(self, *_names: str | None) -> None:
        raise ValueError("It has a DOCTYPE, which no WordPress export has.")

    def end(self, tag: str) -> Element:
        """Close an element, and collect it if it is an author or item."""
        element = super().end(tag)
        if _local_name(element) in ("author", "item"):
            self.complete.append(element)
        return element


def _local_name(element: Element) -> str:
    """The tag without its namespace."""
    return element.tag.rpartition("}")[2]


def _texts(element: Element) -> Texts:
    """The texts of the elements in an element, without white space around them.

    Categories of each kind are in one text, a line each: "tags", "author" and others. Custom fields
    are named like "meta _thumbnail_id".
    """
    texts = Texts(str)
    categories = defaultdict[str, list[str]](list)
    for part in element:
        name, text = _local_name(part), (part.text or "").strip()
        if name == "postmeta":
            meta = {_local_name(one): (one.text or "").strip() for one in part}
            texts[f"meta {meta.get('meta_key', '')}"] = meta.get("meta_value", "")
        elif name == "category":
            domain = part.get("domain", "")
            kind = "tags" if domain in ("category", "post_tag") else f"category {domain}"
            categories[kind].append(html.unescape(text))
        else:
            texts.setdefault("excerpt" if "/excerpt/}" in part.tag else name, text)
    return Texts(str, texts | {kind: "\n".join(names) for kind, names in categories.items()})


def _post(
    location: str, texts: Texts, author: str, converter: Converter, uploads: Uploads
) -> Record:
    """The post or page in an item; one that visitors could not read becomes a draft."""
    report = converter.report
    status, is_page = texts["status"], texts["post_type"] == "page"
    if texts["post_type"] not in ("post", "page"):
        raise UnsupportedError(f"of type {texts['post_type']}")
    if status not in STATUSES:
        raise UnsupportedError(f"in state {status}")
    has_date = not _is_missing(texts["post_date_gmt"])
    date = _date(texts, "post_date")
    hidden = _hidden_kind(texts)
    if hidden:
        report.change(location, f"{hidden} (now drafts)")
    is_draft = bool(hidden) or status == "draft"
    _count_rest(location, texts, report)
    fields = {
        "id": texts["number"],
        "title": _title(location, texts, report),
        "body": _body(location, texts, converter, uploads),
        "tags": texts["tags"].splitlines(),
        "created_at": date,
        "published_at": NEVER if is_draft else date,
        "publish_at": date if is_draft and has_date else None,
        "is_page": is_page,
        "comments_closed": texts["comment_status"] == "closed",
    }
    user = ExternalUser(texts["creator"] or author)
    return Record(location, "posts", fields, user, _addresses(texts))


def _addresses(texts: Texts) -> list[str]:
    """The address of the post, and a short one that leads to it; never the blog's own."""
    links = [texts["link"], texts["guid"]]
    return [link for link in links if re.match(r"https?://[^/]+/.", link)]


def _title(location: str, texts: Texts, report: Report) -> str:
    title, tags = TITLE_TAG.subn("", texts["title"])
    if tags:
        report.change(location, "titles (without their HTML)")
    return html.unescape(title)


def _hidden_kind(texts: Texts) -> str:
    """What becomes a draft because of what it is, or because its readers could not see it."""
    if texts["post_type"] == "page":
        return "pages"
    if texts["post_password"]:
        return "posts with a password"
    status = texts["status"]
    return f"{status} posts" if status in ("private", "pending") else ""


def _body(location: str, texts: Texts, converter: Converter, uploads: Uploads) -> str:
    """The Markdown of a post, with its lead picture first."""
    report = converter.report
    text = _html(texts["encoded"])
    lead = texts["meta _thumbnail_id"]
    image = uploads.images.get(lead, "") if lead else ""
    if lead and not image:
        report.leave_out(location, "lead pictures (not in the file)")
    links = len(ONLY_ADDRESS.findall(text))
    if links:
        report.change(location, "embedded media (now links)", links)
    for block in DYNAMIC_BLOCK.findall(text):
        report.leave_out(location, f"blocks without text ({block})")
    # In posts of the block editor, only elements make paragraphs.
    keeps_lines = "<!-- wp:" not in text
    images = partial(uploads.of_gallery, texts["post_id"])
    text = shortcodes.to_html(text, report, location, images)
    text = f"<p>{image}</p>{text}" if image else text
    return converter.to_markdown(text, location, texts["link"], keeps_lines=keeps_lines)


def _html(text: str) -> str:
    """The text with `\\n` as line ends; ValueError if it is too long to become Markdown."""
    text = text.replace("\r\n", "\n")
    if len(text) > HTML_MAX:
        raise ValueError(f"its text has more than {HTML_MAX:,} characters")
    return text


def _count_rest(location: str, texts: Texts, report: Report) -> None:
    """Count what a post of this blog has not."""
    authors = set(texts["category author"].splitlines()) - {texts["creator"]}
    fields = [name for name in texts if name.startswith("meta ") and name[5:6] not in ("_", "")]
    others = [name for name in texts if name.startswith("category ")]
    counts = {"further authors": len(authors), "custom fields": len(fields)}
    counts["excerpts"] = int(bool(texts["excerpt"]))
    for name in set(others) - {"category author", "category post_format", "category "}:
        counts[f"categories ({name[9:]})"] = len(texts[name].splitlines())
    for what, count in counts.items():
        if count:
            report.leave_out(location, what, count)
    if texts["is_sticky"] == "1":
        report.change(location, "sticky posts (now in their order)")


def _comment(
    location: str,
    texts: Texts,
    post: Record | None,
    users: Users,
    names: dict[str, str],
    converter: Converter,
) -> Record:
    """A comment; one that WordPress has not approved yet is pending."""
    report = converter.report
    if not post:
        raise UnsupportedError("comments (without a post)")
    if texts["comment_type"] not in ("", "comment"):
        raise UnsupportedError(f"comments ({texts['comment_type']})")
    approved = texts["comment_approved"]
    if approved not in COMMENT_STATES:
        raise UnsupportedError(f"comments ({approved})")
    author = _commenter(location, texts, users, report)
    names[texts["comment_id"]] = author.display_name or author.name
    text = _answer(location, texts, names, report) + _html(texts["comment_content"])
    fields = {
        "post_id": post.fields["id"],
        "body": converter.to_markdown(text, location, small=True, keeps_lines=True),
        "created_at": _date(texts, "comment_date"),
        "state": COMMENT_STATES[approved],
    }
    return Record(location, "comments", fields, author)


def _answer(location: str, texts: Texts, names: dict[str, str], report: Report) -> str:
    """Whom the comment answers, as HTML; "" if it answers the post."""
    parent = texts["comment_parent"]
    if parent in ("", "0") or not texts["comment_content"]:
        return ""
    if parent not in names:
        report.change(location, "answers (to comments that are missing)")
        return ""
    report.change(location, "answers (now with “In answer to”)")
    return f"<p><em>In answer to {html.escape(names[parent])}:</em></p>"


def _commenter(location: str, texts: Texts, users: Users, report: Report) -> ExternalUser:
    """The user who wrote a comment, or the name on it."""
    # WordPress's user id 0 means that nobody was logged in.
    user = users.get(texts["comment_user_id"] or "0")
    _count_address(location, texts["comment_author_email"], report)
    if user:
        return user
    name = html.unescape(texts["comment_author"])
    if not name:
        report.change(location, f"comments without a name (now by {NAMELESS})")
    website = texts["comment_author_url"]
    return ExternalUser(name or NAMELESS, is_author=False, website=website)


def _count_address(location: str, email: str, report: Report) -> None:
    if email:
        report.change(location, "mail addresses (not kept)")


def _is_missing(date: str) -> bool:
    """Whether it is none, or WordPress's year 0."""
    return date.startswith(("0000", "-")) or not date


def _date(texts: Texts, name: str) -> str:
    """A date in UTC if there is one, as there is not for drafts; else without a zone."""
    if not _is_missing(texts[f"{name}_gmt"]):
        return f"{texts[f'{name}_gmt']}Z"
    if not _is_missing(texts[name]):
        return texts[name]
    try:
        at = parsedate_to_datetime(texts["pubDate"])
    except (ValueError, TypeError, IndexError):
        raise ValueError("it has no date") from None
    if " -" in texts["pubDate"][:20]:  # the year before 0
        raise ValueError("it has no date")
    return at.isoformat()
