"""Posts for programs: Atom and JSON feeds, the Markdown of a post, sitemap and robots.txt."""

from functools import partial
from uuid import UUID, uuid5

import sqlalchemy as sa
from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue

from app import post_url, visible_post, visible_user
from core.database import blog_id, db
from core.pagination import ID_MAX
from core.plugins import Blog
from extras.tags import Tag
from models import Comment, Post

ENTRIES_MAX = 20  # in a feed; readers ask often enough to miss none
SITEMAP_MAX = 2_000  # URLs in a file, made in 0.1 s; the protocol allows 50,000
CONTENT_TYPES = {"xml": "application/atom+xml", "json": "application/feed+json"}
# The feeds of the pages that have one: endpoints with the same arguments.
FEEDS = {"users.show": "feeds.user", "tags.show": "feeds.tag", "posts.show": "feeds.comments"}

pages = Blueprint("feeds", __name__)


def init_app(app: Blog) -> None:
    """Plug in."""
    app.register_blueprint(pages)
    if "tags" in app.extras:
        app.add_url_rule("/tags/<path:tag>/feed.xml", "feeds.tag", tag_feed)
    app.add_template_global(feed_path)
    app.slots["head"].append("feeds/head.html")
    app.slots["list_head"].append("feeds/list_head.html")
    app.slots["post_head"].append("feeds/post_head.html")
    app.slots["comments_footer"].append("feeds/comments_footer.html")
    app.slots["footer"].append("feeds/footer.html")


def feed_path() -> str | None:
    """The path of the feed of the requested page, if it has one of its own."""
    endpoint = FEEDS.get(str(request.endpoint), "")
    if endpoint not in current_app.view_functions:
        return None
    arguments = dict(request.view_args or {})
    arguments.pop("slug", None)
    return url_for(endpoint, **arguments)


@pages.get("/feed.<any(xml, json):kind>", endpoint="home")
def home_feed(kind: str) -> ResponseReturnValue:
    """The newest posts, in Atom (RFC 4287) or JSON Feed 1.1."""
    name, page = current_app.config["NAME"], url_for("posts.home")
    return show_feed("home", Post.published(), name, page, kind)


@pages.get("/users/<username>/feed.xml", endpoint="user")
def user_feed(username: str) -> ResponseReturnValue:
    """One author's newest posts in Atom."""
    user = visible_user(username)
    posts = Post.published().where(Post.author_id == user.id)
    page = url_for("users.show", username=username)
    return show_feed(f"user-{user.username.lower()}", posts, f"Posts by {user.name}", page)


def tag_feed(tag: str) -> ResponseReturnValue:
    """The newest posts with a tag in Atom; 404 if there are none."""
    name = tag.lower()
    posts = Tag.posts(name)
    db.first_or_404(posts.limit(1))
    return show_feed(f"tag-{name}", posts, f"Posts tagged {name}", url_for("tags.show", tag=tag))


@pages.get("/posts/<id:id>/feed.xml", endpoint="comments")
def comment_feed(id: int) -> ResponseReturnValue:
    """A post's newest comments in Atom."""
    post = db.first_or_404(Post.published().where(Post.id == id))
    comments = Comment.for_post().params(post_id=id, before=ID_MAX, user_id=None)
    title = f"Comments on {post.display_title}"
    return show_feed(f"comments-{id}", comments, title, post_url(post), post=post)


def show_feed(
    name: str,
    entries: sa.Select[Post] | sa.Select[Comment],
    title: str,
    page: str,
    kind: str = "xml",
    post: Post | None = None,
) -> ResponseReturnValue:
    """The first entries; `name` tells feeds apart, `page` is the path that shows the same."""
    found = db.session.scalars(entries.limit(ENTRIES_MAX)).all()
    context = {"title": title, "page": page, "post": post, "name": name}
    urn = partial(make_urn, blog_id())
    try:
        text = render_template(f"feeds/feed.{kind}", entries=found, urn=urn, **context)
    except ValueError:  # of links that cannot be made absolute
        abort(400, "The name of this host is none.")
    return Response(text, content_type=f"{CONTENT_TYPES[kind]}; charset=utf-8")


def make_urn(blog: UUID, name: str) -> str:
    """The id of a feed or an entry (RFC 4122), the same wherever the blog moves to."""
    return uuid5(blog, name).urn


@pages.get("/posts/<id:id>/<slug>.md", endpoint="markdown")
def show_markdown(id: int, slug: str) -> ResponseReturnValue:
    """A post as it was typed; 301 to the right slug from any other."""
    post = visible_post(id)
    if slug != post.slug:
        return redirect(url_for("feeds.markdown", id=id, slug=post.slug), 301)
    return Response(post.body, mimetype="text/markdown")


@pages.get("/sitemap.xml", endpoint="sitemap")
@pages.get("/sitemap-<id:part>.xml", endpoint="sitemap")
def show_sitemap(part: int | None = None) -> ResponseReturnValue:
    """The posts for search engines; where there are many, an index of parts by their ids."""
    last_id = db.session.scalar(sa.select(sa.func.max(Post.id))) or 1
    parts = range(1, (last_id - 1) // SITEMAP_MAX + 2)
    if part and part not in parts:
        abort(404)
    is_index = not part and len(parts) > 1
    end = (part or 1) * SITEMAP_MAX
    query = Post.titles().where(Post.id > end - SITEMAP_MAX, Post.id <= end)
    posts = [] if is_index else db.session.scalars(query).all()
    context = {"posts": posts, "parts": parts if is_index else []}
    return Response(render_template("feeds/sitemap.xml", **context), mimetype="application/xml")


@pages.get("/robots.txt", endpoint="robots")
def show_robots() -> ResponseReturnValue:
    """What search engines may read."""
    return Response(render_template("feeds/robots.txt"), mimetype="text/plain")
