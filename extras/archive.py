"""The archive: every title by year and month."""

from datetime import datetime

import sqlalchemy as sa
from flask import Blueprint, current_app, render_template, request
from flask.typing import ResponseReturnValue

from core.database import db
from core.pagination import EPOCH, NEVER, requested_page
from core.plugins import Blog
from models import Post

TITLES_MAX = 500  # on a page, about 100 kB

pages = Blueprint("archive", __name__)


def init_app(app: Blog) -> None:
    """Plug in."""
    app.slots["footer"].append("archive/footer.html")
    app.register_blueprint(pages)


@pages.get("/archive", endpoint="show")
def show_archive() -> ResponseReturnValue:
    """Every title, in pages of TITLES_MAX, or those of one year."""
    zone = current_app.config["ZONE"]
    year = request.args.get("year", 0, type=int)
    if year not in range(EPOCH.year, NEVER.year):
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
