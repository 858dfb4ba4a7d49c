"""Tags: words under which posts are found, their field in the form of a post, and their pages."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa
from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Mapped, mapped_column
from wtforms import Field, ValidationError

from app import show_list
from core.database import Base, atomic, db, now
from core.pagination import newest_first
from core.plugins import Blog, posts_saved
from core.rendering import normalize_text
from forms import NORMALIZED_MAX, Length, LineField, PostFormPart
from models import Post

TAG_MAX = 40  # characters
TAGS_MAX = 10  # of a post; more help nobody
COUNT_MAX = 300  # posts that are counted for a tag; more are "300+"
SEPARATORS = "[,、，]"  # between tags
CHUNK = 1_000  # posts whose tags are written in one transaction

pages = Blueprint("tags", __name__)


class Tag(Base):
    """A tag of a post, a copy of `Post.tags` that is sorted for lists."""

    __tablename__ = "tags"
    name: Mapped[str] = mapped_column(sa.String(TAG_MAX), primary_key=True)
    published_at: Mapped[datetime] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(
        sa.ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True, index=True
    )

    @classmethod
    def sort_key(cls) -> sa.Tuple:
        """The columns by which the lists of a tag's posts are sorted."""
        return sa.tuple_(cls.published_at, cls.post_id)

    @classmethod
    def posts(cls, name: str) -> sa.Select[Post]:
        """`Select` of the published Posts with that tag, newest first."""
        query = Post.published().join(cls, cls.post_id == Post.id).where(cls.name == name)
        return query.order_by(None).order_by(*newest_first(cls.sort_key()))

    @classmethod
    def with_counts(cls) -> sa.Select[str, int]:
        """`Select` of every tag, and of the number of its published Posts, to COUNT_MAX + 1.

        The number is 0 where all authors are banned. Goes from name to name through the index, and
        so reads no tag's rows but those it counts.
        """
        published = sa.select(sa.func.min(cls.name).label("name")).where(cls.published_at <= now())
        names = published.cte("names", recursive=True)
        following = published.where(cls.name > names.c.name).scalar_subquery()
        names = names.union_all(sa.select(following).where(names.c.name.is_not(None)))
        posts = sa.select(cls.post_id).where(cls.name == names.c.name, cls.published_at <= now())
        posts = posts.where(cls.post_id.not_in(Post.by_banned()))
        some = posts.correlate(names).limit(COUNT_MAX + 1).subquery()
        count = sa.select(sa.func.count()).select_from(some).scalar_subquery()
        return sa.select(names.c.name, count).where(names.c.name.is_not(None)).order_by("name")


class TagsPart(PostFormPart):
    """The field for the tags of a post."""

    tags = LineField("Tags", [Length(0, NORMALIZED_MAX)])

    def __init__(self, post: Post) -> None:
        super().__init__(post)
        if not self.is_submitted():
            self.tags.data = ", ".join(post.tags or [])

    def names(self) -> list[str]:
        """The tags in lower case, each once, in the order of the alphabet."""
        text = self.tags.data.lower()[:NORMALIZED_MAX]
        names = re.split(SEPARATORS, unicodedata.normalize("NFC", text))
        return sorted({name.strip().lstrip("# ") for name in names} - {""})

    def validate_tags(self, field: Field) -> None:
        """Refuse what would make no URL or no sense."""
        names = self.names()
        if len(names) > TAGS_MAX:
            raise ValidationError(f"There are {len(names)} tags; a post can have {TAGS_MAX}.")
        for name in names:
            if fault := tag_fault(name):
                raise ValidationError(f"“{name}” is no tag: {fault}.")

    def populate_post(self, post: Post) -> None:
        """Give the post its tags."""
        post.tags = self.names()


def tag_fault(name: str) -> str:
    """Why a name can be no tag; "" if it can be one."""
    *_, last = parts = name.split("/")
    if len(name) > TAG_MAX:
        return f"it is longer than {TAG_MAX} characters"
    if not any(unicodedata.category(char)[0] in "LNS" for char in name):
        return "it has no letter, number or symbol"
    if "\\" in name:
        return "a backslash cannot be in its address"
    if {"", ".", ".."} & set(parts):  # browsers drop these from an address
        return "each part between slashes has to be a word"
    if last == "feed.xml":
        return "its address is that of a feed"
    return ""


def clean_tags(names: Iterable[object]) -> tuple[list[str], list[str]]:
    """Tags from elsewhere as a post has them, and the reasons why others were left out."""
    texts = (str(name).lower()[:NORMALIZED_MAX] for name in names)
    lines = (re.sub(SEPARATORS, " ", unicodedata.normalize("NFC", text)) for text in texts)
    found = dict.fromkeys(" ".join(normalize_text(line).split()).lstrip("# ") for line in lines)
    tags = [name for name in found if not tag_fault(name)]
    faults = [f"“{name}”: {fault}" for name in found if (fault := tag_fault(name))]
    faults += [f"“{name}”: a post can have {TAGS_MAX}" for name in tags[TAGS_MAX:]]
    return tags[:TAGS_MAX], faults


# The rows -----------------------------------------------------------------------------------------


def write_rows(_sender: object, posts: Sequence[Post]) -> None:
    """Replace the rows of these posts."""
    ids = [post.id for post in posts]
    db.session.execute(sa.delete(Tag).where(Tag.post_id.in_(ids)))
    rows = [
        {"name": name, "published_at": post.published_at, "post_id": post.id}
        for post in posts
        for name in post.tags
    ]
    if rows:
        db.session.execute(sa.insert(Tag), rows)


def rebuild() -> None:
    """Rewrite the rows of all posts, some posts at a time, so that others can write meanwhile."""
    last_id = 0
    while True:
        with atomic():
            some = sa.select(Post).where(Post.id > last_id).order_by(Post.id).limit(CHUNK)
            posts = db.session.scalars(some).all()
            if not posts:
                return
            write_rows(None, posts)
            last_id = posts[-1].id
        db.session.expunge_all()  # or a large blog fills the memory


# The pages ----------------------------------------------------------------------------------------


def init_app(app: Blog) -> None:
    """Plug in."""
    posts_saved.connect(write_rows, app)
    app.post_form_parts["tags"] = TagsPart
    app.slots["post_form_fields"].append("tags/field.html")
    app.slots["post_head"].append("tags/head.html")
    app.slots["post_footer"].append("tags/links.html")
    app.slots["footer"].append("tags/footer.html")
    app.register_blueprint(pages)


@pages.get("/tags", endpoint="list")
def list_tags() -> ResponseReturnValue:
    """Every tag and the number of its posts."""
    tags = [(name, count) for name, count in db.session.execute(Tag.with_counts()) if count]
    return render_template("tags/list.html", tags=tags, count_max=COUNT_MAX)


@pages.get("/tags/<path:tag>", endpoint="show")
def show_tag(tag: str) -> ResponseReturnValue:
    """The posts with a tag, newest first; 404 if there are none."""
    posts = Tag.posts(tag.lower())
    db.first_or_404(posts.limit(1))
    return show_list(posts, sort_key=Tag.sort_key(), heading=f"Posts tagged {tag.lower()}")
