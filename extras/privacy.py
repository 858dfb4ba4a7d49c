"""The page that says what the site stores."""

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from core.database import Base
from core.plugins import Blog

# What the rows of a table are, for visitors. The columns are read off the table itself.
TABLES = {
    "users": "An account. The first is the site's owner; others are authors, or members who "
    "comment.",
    "sessions": "One browser in which an account is logged in, until it logs out or the time ends.",
    "posts": "What an author writes: published, scheduled, or a draft.",
    "comments": "A comment on a post: shown, or pending until it is approved.",
    "tags": "A tag of a post, sorted for lists.",
    "pictures": "A picture of a post, made smaller, without what the camera noted in it.",
    "metadata": "What the blog notes about itself, such as the version of the search index.",
}

pages = Blueprint("privacy", __name__)


def init_app(app: Blog) -> None:
    """Plug in."""
    app.slots["footer"].append("privacy/footer.html")
    app.register_blueprint(pages)


@pages.get("/privacy", endpoint="show")
def show_privacy() -> ResponseReturnValue:
    """What the site stores, read off the tables."""
    tables = [
        (table.name.capitalize(), TABLES.get(table.name, ""), table.columns.keys())
        for table in sorted(Base.metadata.tables.values(), key=lambda table: table.name)
    ]
    return render_template("privacy/privacy.html", tables=tables)
