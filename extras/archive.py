"""The archive: every title by year and month, and links to the posts before and after a post."""

from datetime import datetime
from functools import cache

import sqlalchemy as sa
from flask import Blueprint, current_app, render_template, request
from flask.typing import ResponseReturnValue

from core.database import UTCDateTime, db
from core.pagination import EPOCH, NEVER, newest_first, requested_page
from core.plugins import Blog
from models import Post

TITLES_MAX = 500  # on a page, about 100 kB

pages = Blueprint("archive", __name__)


def init_app(app: Blog) -> None:
    """Plug in."""
    app.add_template_global(adjacent_posts)
    app.slots["post_end"].append("archive/adjacent.html")
    app.slots["footer"].append("archive/footer.html")
    app.register_blueprint(pages)


@pages.get("/archive", endpoint="show")
def show_archive() -> ResponseReturnValue:
    """Every title, in pages of TITLES_MAX, or those of one year."""
    zone = current_app.config["ZONE"]
    year = request.args.get("year", 0, type=int)
    if year not in range(EPOCH.year, NEVER.year) and year not in published_years():
        year = 0
    posts = Post.titles()
    if year:
        begin, end = (datetime(number, 1, 1, tzinfo=zone) for number in (year, year + 1))
        posts = posts.where(Post.published_at >= begin, Post.published_at < end)
    page = requested_page(posts, Post.sort_key(), TITLES_MAX, year=year or None)
    years = published_years() if page.newer or page.older else []
    return render_template("archive/archive.html", page=page, years=years, year=year)


def published_years() -> list[int]:
    """The years from the newest post to the oldest."""
    # One after the other, each is at an end of an index; together, they would read all of it.
    newest = db.session.scalar(sa.select(sa.func.max(Post.published_at)).where(Post.is_published))
    oldest = db.session.scalar(sa.select(sa.func.min(Post.published_at)).where(Post.is_published))
    if not newest or not oldest:
        return []
    zone = current_app.config["ZONE"]
    return list(range(newest.astimezone(zone).year, oldest.astimezone(zone).year - 1, -1))


@cache
def adjacent() -> sa.Select[Post]:
    """`Select` of the published Posts next to the parameters `at` and `id`, newest first."""
    sort_key = Post.sort_key()
    this = sa.tuple_(sa.bindparam("at", type_=UTCDateTime), sa.bindparam("id"))
    newer = sa.select(Post.id).where(sort_key > this, Post.is_published)
    newer = newer.order_by(*sort_key.clauses)
    older = sa.select(Post.id).where(sort_key < this, Post.is_published)
    older = older.order_by(*newest_first(sort_key))
    ids = (query.limit(1).scalar_subquery() for query in (newer, older))
    return Post.titles().where(Post.id.in_(ids))


def adjacent_posts(post: Post) -> dict[str, Post]:
    """The published posts before and after this one, as "older" and "newer"."""
    posts = db.session.scalars(adjacent(), {"at": post.published_at, "id": post.id})
    return {"newer" if other.cursor > post.cursor else "older": other for other in posts}
