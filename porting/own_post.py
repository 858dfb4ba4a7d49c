"""A post's file in our export: its fields, and how other programs are kept from running it."""

import re

from core.pagination import NEVER
from porting.records import Fields

ESCAPED = "escaped"  # the field of a text in which the tags of Hugo are taken apart
# Hugo runs `{{<` and `{{%` also in code. A word joiner, which nobody sees, between the braces keeps
# it from that. Where one is already, there is one more.
HUGO_TAG = re.compile(r"\{(\u2060*)(?=\{[<%])")
ESCAPED_HUGO_TAG = re.compile(r"\{\u2060(\u2060*)(?=\{[<%])")


def escape(body: str) -> str:
    """The text, in which Hugo finds nothing to run."""
    return HUGO_TAG.sub("{\u2060\\1", body)


def is_own(front_matter: Fields | None) -> bool:
    """Whether a Markdown file is of our export."""
    return {"state", "author", "created_at"} <= set(front_matter or {})


def parse(front_matter: Fields | None, body: str) -> Fields:
    """The fields of a post; what other programs are told of its state is not for us."""
    if front_matter is None:
        raise ValueError("it has no front matter")
    date, tags = front_matter.get("date"), front_matter.get("tags")
    is_draft = front_matter.get("state") == "draft" or not date
    if str(front_matter.get(ESCAPED)).lower() == "true":
        body = ESCAPED_HUGO_TAG.sub(r"{\1", body)
    return front_matter | {
        "body": body,
        "published_at": NEVER if is_draft else date,
        "tags": tags if isinstance(tags, list) else [],
    }
