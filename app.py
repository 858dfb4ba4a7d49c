"""The blog: its factory, then every page by section."""

import re
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from flask_wtf.csrf import generate_csrf
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import (
    HTTPException,
    InternalServerError,
    SecurityError,
    ServiceUnavailable,
)
from werkzeug.routing import BaseConverter, IntegerConverter, Map
from werkzeug.urls import iri_to_uri

import cli
import config
import database
import rendering
import security
from database import db
from forms import CommentForm, Form, LogInForm, PostForm, SignUpForm
from models import COMMENT_EDIT_MINUTES, ID_MAX, Comment, Post, User, Visitor, page_of
from security import login_manager

RETRY_AFTER = 10  # seconds; a database server restarts in less
SENTENCES = {
    400: "The blog could not make sense of this request.",
    403: "You can see this, but it is not yours to change.",
    404: "There is no page here. It may have been deleted, or the address has a slip in it.",
    405: "This address does not take requests of that kind.",
    413: "That is more than the blog takes at once. Go back: your browser still has the text.",
    500: "Something went wrong inside the blog, and nothing was saved. The owner can find the "
    "reason in the log.",
    503: "The blog is busy or its database is away. Nothing was saved; try again in a moment.",
}

blog = Blueprint("blog", __name__)


class IdConverter(IntegerConverter):
    """An id in a URL: ASCII digits, no larger than the column."""

    regex = "[1-9][0-9]{0,9}"

    def __init__(self, url_map: Map) -> None:
        super().__init__(url_map, max=ID_MAX)


class NameConverter(BaseConverter):
    """A username in a URL."""

    regex = "[A-Za-z0-9_-]+"


def create_app(instance_path: str | None = None, **settings: Any) -> Flask:
    """The WSGI application; `settings` go over the environment, without its BLOG_ prefix."""
    app = Flask(__name__, instance_path=instance_path, instance_relative_config=True)
    config.load(app, settings)
    app.url_map.converters |= {"id": IdConverter, "name": NameConverter}
    app.jinja_env.filters |= {
        "markdown": rendering.markdown,
        "excerpt": rendering.excerpt,
        "local": local,
    }
    app.jinja_env.globals |= {
        "csrf_token": generate_csrf,
        "current_user": current_user,
        "post_url": post_url,
    }
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    database.init_app(app)
    security.init_app(app)
    app.register_blueprint(blog)
    app.register_error_handler(HTTPException, show_error)
    app.register_error_handler(SecurityError, lambda error: error)  # no links to a forged host
    app.register_error_handler(InternalServerError, show_failure)
    for error in database.UNAVAILABLE:
        app.register_error_handler(error, show_unavailable)
    app.cli.add_command(cli.demo)
    return app


def local(at: datetime) -> datetime:
    """The time in the blog's zone."""
    zone: ZoneInfo = current_app.config["ZONE"]
    return at.astimezone(zone)


def post_url(post: Post, anchor: str | None = None) -> str:
    """The post's path."""
    return url_for("blog.show_post", id=post.id, slug=post.slug, _anchor=anchor)


# Reading ------------------------------------------------------------------------------------------


@blog.get("/")
def home() -> ResponseReturnValue:
    """Everybody's posts, newest first."""
    return show_list(Post.published())


@blog.get("/users/<name:username>")
def show_user(username: str) -> ResponseReturnValue:
    """One author's posts, newest first."""
    user = db.first_or_404(User.named(username))
    return show_list(Post.published().where(Post.author_id == user.id), author=user)


def show_list(posts: sa.Select[Post], author: User | None = None) -> ResponseReturnValue:
    """One page of the posts; 404 if it does not exist."""
    before, after = request.args.get("before"), request.args.get("after")
    try:
        page = page_of(posts, before, after)
    except LookupError:
        abort(404)
    if after and not page.newer:
        # The newest page has one address, and is full if it can be.
        return redirect(request.path, 303)
    if before and not page.posts:
        abort(404)
    return render_template("posts.html", page=page, author=author)


@blog.get("/posts/<id:id>/")
@blog.get("/posts/<id:id>/<slug>")
def show_post(id: int, slug: str = "") -> ResponseReturnValue:
    """A post and its comments; 301 to the right slug from any other."""
    post = db.get_or_404(Post, id)
    if slug != post.slug:
        return redirect(post_url(post), 301)
    # A form would set a cookie, and visitors have none.
    return render_post(post, CommentForm() if current_user.is_authenticated else None)


def render_post(post: Post, form: CommentForm | None) -> ResponseReturnValue:
    """The post's page, with the comment form as it is."""
    comments = db.session.scalars(Comment.under(post)).all()
    page = render_template("post.html", post=post, comments=comments, form=form)
    return page, form.status if form else 200


@blog.get("/healthz")
def healthz() -> ResponseReturnValue:
    """For monitors: 200 if the database answers, else 503."""
    db.session.execute(sa.select(1))
    return Response("ok\n", mimetype="text/plain", headers={"Cache-Control": "no-store"})


# Writing ------------------------------------------------------------------------------------------


@blog.route("/posts/new", methods=["GET", "POST"])
@login_required
def new_post() -> ResponseReturnValue:
    """Write a post. 403 for members."""
    if not current_user.may_post:
        abort(403, "Your account can comment, but not post.")
    form = PostForm()
    if not form.validate_on_submit():
        return render_template("post_form.html", form=form, title="New post"), form.status
    post = Post(author_id=current_user.id, title=form.title.data, body=form.body.data)
    db.session.add(post)
    db.session.commit()
    flash("Your post is published.")
    return redirect(post_url(post), 303)


@blog.route("/posts/<id:id>/edit", methods=["GET", "POST"])
@login_required
def edit_post(id: int) -> ResponseReturnValue:
    """Change a post. 403 unless it is yours or the blog is."""
    post = editable_post(id)
    form = PostForm(obj=post)
    if not form.validate_on_submit():
        page = render_template("post_form.html", form=form, title="Edit post", post=post)
        return page, form.status
    form.populate_obj(post)
    if db.session.is_modified(post):
        post.updated_at = database.now()
    db.session.commit()
    flash("Your changes are saved.")
    return redirect(post_url(post), 303)


@blog.route("/posts/<id:id>/delete", methods=["GET", "POST"])
@login_required
def delete_post(id: int) -> ResponseReturnValue:
    """Ask, then delete a post with its comments. 403 unless it is yours or the blog is."""
    post = editable_post(id)
    form = Form()
    if not form.validate_on_submit():
        return render_template("delete_post.html", form=form, post=post), form.status
    db.session.delete(post)
    db.session.commit()
    flash("The post is deleted.")
    return redirect(url_for("blog.home"), 303)


def editable_post(id: int) -> Post:
    """The post with its number of comments; 404 if there is none, 403 if it is not to change."""
    post: Post = db.first_or_404(Post.published().where(Post.id == id))
    if not post.is_editable_by(current_user):
        abort(403)
    return post


# Comments -----------------------------------------------------------------------------------------


@blog.post("/posts/<id:id>/comments")
@login_required
def new_comment(id: int) -> ResponseReturnValue:
    """Comment on a post."""
    # Until the commit nobody deletes the post.
    locked = (
        sa.select(Post).where(Post.id == id).with_for_update(read=True, key_share=True, of=Post)
    )
    post = db.first_or_404(locked)
    form = CommentForm()
    if not form.validate_on_submit():
        return render_post(post, form)
    comment = Comment(post=post, author_id=current_user.id, body=form.body.data)
    db.session.add(comment)
    db.session.commit()
    return redirect(post_url(post, f"comment-{comment.id}"), 303)


@blog.route("/comments/<id:id>/edit", methods=["GET", "POST"])
@login_required
def edit_comment(id: int) -> ResponseReturnValue:
    """Change a comment of one's own, while it is fresh. 403 otherwise."""
    comment = db.get_or_404(Comment, id)
    if not comment.is_editable_by(current_user):
        minutes = COMMENT_EDIT_MINUTES
        abort(403, f"Only its author can edit a comment, and only for {minutes} minutes.")
    form = CommentForm(obj=comment)
    if not form.validate_on_submit():
        return render_template("comment_form.html", form=form, comment=comment), form.status
    form.populate_obj(comment)
    if db.session.is_modified(comment):
        comment.updated_at = database.now()
    db.session.commit()
    return redirect(post_url(comment.post, f"comment-{comment.id}"), 303)


@blog.route("/comments/<id:id>/delete", methods=["GET", "POST"])
@login_required
def delete_comment(id: int) -> ResponseReturnValue:
    """Ask, then delete a comment. 403 unless it, the post or the blog is yours."""
    comment = db.get_or_404(Comment, id)
    if not comment.is_deletable_by(current_user):
        abort(403)
    form = Form()
    if not form.validate_on_submit():
        return render_template("delete_comment.html", form=form, comment=comment), form.status
    back = post_url(comment.post, "comments")
    db.session.delete(comment)
    db.session.commit()
    flash("The comment is deleted.")
    return redirect(back, 303)


# Signing in ---------------------------------------------------------------------------------------


@blog.route("/signup", methods=["GET", "POST"])
def sign_up() -> ResponseReturnValue:
    """Make an account and log in to it."""
    form = SignUpForm()
    if form.validate_on_submit():
        password_hash = security.hash_password(form.password.data)
        try:
            may = current_app.config["NEW_ACCOUNTS_MAY"]
            user = User.create(form.username.data, password_hash, may)
        except IntegrityError:
            db.session.rollback()
            form.username.errors = ["This name is taken. Choose another."]
        else:
            return welcome(user, keep=False)
    return render_template("sign_up.html", form=form), form.status


@blog.route("/login", methods=["GET", "POST"])
def log_in() -> ResponseReturnValue:
    """Log in, then go back to where it was asked for."""
    form = LogInForm()
    if form.validate_on_submit():
        user = db.session.scalar(User.named(form.username.data))
        if security.is_password_of(user, form.password.data) and user:
            return welcome(user, keep=form.remember.data)
        form.form_errors.append("This username and password do not belong together.")
    return render_template("log_in.html", form=form), form.status


def welcome(user: User, keep: bool) -> ResponseReturnValue:
    """Log the user in and lead to `next`, if that is a page of this site, or home."""
    security.log_in(user, keep)
    db.session.commit()
    return redirect(security.safe_path(request.args.get("next")) or url_for("blog.home"), 303)


@blog.post("/logout")
def log_out() -> ResponseReturnValue:
    """End this browser's session."""
    if not Form().validate():
        abort(400, "You are still logged in: the page was too old. Go back, reload it, try again.")
    security.log_out()
    db.session.commit()
    return redirect(url_for("blog.home"), 303)


@login_manager.unauthorized_handler
def ask_to_log_in() -> ResponseReturnValue:
    """Lead to the log-in page; but a text that was sent comes back, status 400."""
    if request.method == "POST":
        abort(400, "You are not logged in any more, so nothing was saved.")
    return redirect(url_for("blog.log_in", next=iri_to_uri(request.full_path.rstrip("?"))), 303)


# Errors -------------------------------------------------------------------------------------------


def show_error(error: HTTPException, **context: Any) -> ResponseReturnValue:
    """The page of an error; what was typed comes back on it."""
    own_sentence = error.description if error.description != type(error).description else None
    # A form that could not be read raises again; one that was read is remembered here.
    fields = vars(request).get("form", {})
    typed = {name: text for name, text in fields.items() if not re.match("csrf|passw|conf", name)}
    page = render_template(
        "error.html",
        code=error.code,
        name=error.name,
        sentence=own_sentence or SENTENCES.get(error.code or 0, error.description),
        typed=typed,
        **context,
    )
    response = current_app.make_response(error)
    response.set_data(page)
    return response


def show_failure(error: InternalServerError) -> ResponseReturnValue:
    """The page of a fault of ours; Flask has logged its trace."""
    db.session.rollback()
    return show_error(error, current_user=Visitor())


def show_unavailable(error: Exception) -> ResponseReturnValue:
    """The page shown while the database cannot be reached or written."""
    current_app.logger.error("The database is unavailable: %s", error)
    db.session.rollback()
    return show_error(ServiceUnavailable(retry_after=RETRY_AFTER), current_user=Visitor())
