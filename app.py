"""The blog: its factory, then every page by section."""

from datetime import datetime
from io import BytesIO
from typing import Any

import sqlalchemy as sa
from flask import Blueprint, Flask, Response, abort, current_app, flash, redirect, request, url_for
from flask import render_template as render
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required, logout_user
from flask_wtf.csrf import generate_csrf
from sqlalchemy.orm.exc import ObjectDeletedError
from werkzeug import exceptions
from werkzeug.routing import IntegerConverter
from werkzeug.urls import iri_to_uri

import archive
import cache
import cli
import config
import database
import forms
import owner
import pictures
import rendering
import search
import security
from database import db, locked
from models import (
    COMMENT_EDIT_MINUTES,
    COUNT_MAX,
    EPOCH,
    ID_MAX,
    NEVER,
    PAGE_SIZE,
    TAG_COUNT_MAX,
    Comment,
    Page,
    Picture,
    Place,
    Post,
    Tag,
    User,
    Visitor,
    id_of,
    page_of,
    place_at,
    sent_before,
)

RETRY_AFTER = 10  # seconds; a database server restarts in less
FEED_MAX = 20  # entries; readers ask often enough to miss none
SITEMAP_MAX = 2_000  # addresses in a file, made in 0.1 s; the protocol allows 50,000
ARCHIVE_MAX = 500  # titles on a page, about 100 kB
FEEDS = {"xml": "application/atom+xml", "json": "application/feed+json"}
NO_SIGN_UP = {
    "closed": "New accounts are not made here at present.",
    "invite": "A new account needs an invitation, which works once. Ask the owner for a new one.",
}
NOT_SHOWN = {"csrf_token", "password", "confirm", "current", "website"}  # again on an error page

blog = Blueprint("blog", __name__)


class IdConverter(IntegerConverter):
    """An id in a URL: ASCII digits, and no more of them than the column holds."""

    regex = "[1-9][0-9]{0,8}"


def create_app(instance_path: str | None = None, **settings: Any) -> Flask:
    """The WSGI application; `settings` go over the environment, without its BLOG_ prefix."""
    app = Flask(__name__, instance_path=instance_path, instance_relative_config=True)
    config.load(app, settings)
    app.url_map.converters["id"] = IdConverter
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    for name in ("markdown", "excerpt", "snippet", "date", "counted"):
        app.add_template_filter(getattr(rendering, name))
    app.jinja_env.globals |= {"csrf_token": generate_csrf, "current_user": current_user}
    app.jinja_env.globals["count_max"] = COUNT_MAX
    for function in (address, post_url, waiting):
        app.add_template_global(function)
    database.init_app(app)
    cache.init_app(app, Post.next_due)
    security.init_app(app)
    app.register_blueprint(blog)
    app.register_blueprint(owner.pages)
    app.register_error_handler(exceptions.HTTPException, show_error)
    app.register_error_handler(exceptions.InternalServerError, show_failure)
    app.register_error_handler(ObjectDeletedError, show_loss)
    for kind in (exceptions.SecurityError, exceptions.BadHost):
        app.register_error_handler(kind, lambda error: error)  # without a host, no page has links
    for command in cli.COMMANDS:
        app.cli.add_command(command)
    return app


def address(**changes: str | None) -> str:
    """The path of the page that is shown, with other parameters."""
    return url_for(str(request.endpoint), **(request.view_args or {}) | changes)


def post_url(post: Post, anchor: str | None = None) -> str:
    """The post's path."""
    return url_for("blog.show_post", id=post.id, slug=post.slug, _anchor=anchor)


def waiting() -> int:
    """How many comments wait for the owner, up to COUNT_MAX + 1, for the navigation."""
    some = Comment.waiting().with_only_columns(Comment.id).limit(COUNT_MAX + 1).subquery()
    return db.session.scalar(sa.select(sa.func.count()).select_from(some)) or 0


# Reading ------------------------------------------------------------------------------------------


@blog.get("/")
@blog.get("/feed.<any(xml, json):kind>")
def home(kind: str = "html") -> ResponseReturnValue:
    """Everybody's posts, newest first."""
    return show_list(Post.published(), kind)


@blog.get("/users/<username>")
@blog.get("/users/<username>/feed.<any(xml):kind>")
def show_user(username: str, kind: str = "html") -> ResponseReturnValue:
    """One author's posts, newest first."""
    user = db.first_or_404(User.named(username).where(User.banned_at.is_(None)))
    posts = Post.published().where(Post.author_id == user.id)
    return show_list(posts, kind, f"Posts by {user.name}", author=user)


@blog.get("/tags/<tag>")
@blog.get("/tags/<tag>/feed.<any(xml):kind>")
def show_tag(tag: str, kind: str = "html") -> ResponseReturnValue:
    """The posts with a tag, newest first; 404 if there are none."""
    posts = Post.tagged(tag.lower())
    db.first_or_404(posts.limit(1))
    return show_list(posts, kind, f"Posts tagged {tag.lower()}", Tag.place())


@blog.get("/tags")
def tags() -> ResponseReturnValue:
    """Every tag and the number of its posts."""
    return render("tags.html", tags=db.session.execute(Tag.counted()), most=TAG_COUNT_MAX)


@blog.get("/search")
def search_posts() -> ResponseReturnValue:
    """The posts that hold every word of a query, newest first."""
    query = " ".join(forms.tidy(request.args.get("q", "")).split())[: search.QUERY_MAX]
    security.spend({"search by address": security.address()})
    asked = search.phrases(query)
    if not asked:
        return render("search.html", query=query)
    posts = search.found(asked, place("before"), place("after"))
    heading, shown = f"Search for {query}", search.pattern(asked)
    page = show_list(posts, heading=heading, query=query, asked=shown)
    response = current_app.make_response(page)
    # Pages far down are asked for once, and would push out others.
    response.cache_control.no_store = bool(request.args.keys() & {"before", "after"})
    return response


def show_list(
    posts: sa.Select[Post],
    kind: str = "html",
    heading: str = "",
    sorted_by: sa.Tuple | None = None,
    **context: Any,
) -> ResponseReturnValue:
    """One page of the posts, or their feed; 404 for a page that does not exist."""
    if kind != "html":
        return show_feed(kind, posts, heading, address(kind=None))
    page = asked_page(posts, sorted_by)
    context |= {"heading": heading, "before": place("before"), "after": place("after")}
    return render("posts.html", page=page, **context)


def asked_page(
    posts: sa.Select[Post], sorted_by: sa.Tuple | None = None, size: int = PAGE_SIZE
) -> Page:
    """The page of a list at which the query string points; 404 for one that does not exist."""
    before, after = place("before"), place("after")
    place_of = Post.place() if sorted_by is None else sorted_by
    page = page_of(posts, before, after, place_of, size)
    if before and not page.posts:
        abort(404)
    if after and not page.newer:
        # The newest page has one address, and is full if it can be.
        rest = {name: request.args.get(name) for name in ("q", "year")}
        abort(redirect(address(**rest), 303))
    return page


def place(name: str) -> Place | None:
    """The place in a list at which the query string's parameter points; 404 for nonsense."""
    key = request.args.get(name)
    try:
        return place_at(key) if key else None
    except LookupError:
        abort(404)


@blog.get("/posts/<id:id>/", strict_slashes=False)
@blog.get("/posts/<id:id>/<slug>")
def show_post(id: int, slug: str = "") -> ResponseReturnValue:
    """A post and its newest comments, or older ones; 301 to the right slug from any other."""
    post = visible_post(id)
    if slug != post.slug:
        return redirect(post_url(post), 301)
    before = request.args.get("before", ID_MAX, type=id_of)
    under = Comment.under(post, current_user).where(Comment.id < before)
    comments = db.session.scalars(under.limit(COUNT_MAX + 1)).all()
    # A form would set a cookie, and visitors have none.
    is_open = post.is_published and not post.comments_closed
    form = forms.CommentForm() if current_user.is_authenticated and is_open else None
    context = {"comments": comments, "is_older": before < ID_MAX, "form": form}
    return render("post.html", post=post, **context)


def visible_post(id: int) -> Post:
    """The post; 404 unless one may read it."""
    post: Post = db.first_or_404(Post.visible_to(current_user).where(Post.id == id))
    return post


@blog.get("/posts/<id:id>/<slug>.md")
def show_markdown(id: int, slug: str) -> ResponseReturnValue:
    """A post as it was typed; 301 to the right slug from any other."""
    post = visible_post(id)
    if slug != post.slug:
        return redirect(url_for("blog.show_markdown", id=id, slug=post.slug), 301)
    return Response(post.body, mimetype="text/markdown")


@blog.get("/archive")
def show_archive() -> ResponseReturnValue:
    """Every title by year and month, in pages of ARCHIVE_MAX titles, or those of one year."""
    year, zone = request.args.get("year", 0, type=int), current_app.config["ZONE"]
    posts, years = Post.titles(), range(0)
    year = year if year in range(EPOCH.year, NEVER.year) else 0
    if year:
        begin, end = (datetime(number, 1, 1, tzinfo=zone) for number in (year, year + 1))
        posts = posts.where(Post.published_at >= begin, Post.published_at < end)
    page = asked_page(posts, size=ARCHIVE_MAX)
    if page.newer or page.older:
        # One after the other, each is at an end of an index; together, they read all of it.
        ends = (sa.func.max(Post.published_at), sa.func.min(Post.published_at))
        at = [db.session.scalar(sa.select(end).where(Post.is_published)) for end in ends]
        newest, oldest = (end.astimezone(zone).year for end in at if end)
        years = range(newest, oldest - 1, -1)
    return render("archive.html", page=page, years=years, year=year)


@blog.get("/privacy")
def privacy() -> ResponseReturnValue:
    """What the site stores, read off the tables themselves."""
    kinds = [mapper.class_ for mapper in database.Base.registry.mappers]
    return render("privacy.html", kinds=sorted(kinds, key=lambda kind: kind.__name__))


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
    return write(Post(author_id=current_user.id, published_at=NEVER), forms.PostForm())


@blog.route("/posts/<id:id>/edit", methods=["GET", "POST"])
@login_required
def edit_post(id: int) -> ResponseReturnValue:
    """Change a post. 403 unless it is yours or the blog is."""
    post = editable_post(id)
    if not current_user.may_post:
        abort(403, "Your account can comment, but not post.")
    if post.withheld_at:
        abort(403, "Its author is banned. Lift the ban before you change it.")
    later = None if post.is_draft or post.is_published else post.published_at
    at = later and later.astimezone(current_app.config["ZONE"]).replace(tzinfo=None)
    before = {name: getattr(post, name) for name in ("title", "body", "comments_closed")}
    before |= {"publish_at": at, "tags": ", ".join(post.tags)}
    return write(post, forms.PostForm(data=before))


def write(post: Post, form: forms.PostForm) -> ResponseReturnValue:
    """The post's form: shown, previewed or saved; 409 if the post has changed meanwhile."""
    action = request.form.get("action", "publish")
    if action == "picture" or request.files.get("picture"):
        add_picture(form)
    is_text = action != "picture" and not form.errors
    if is_text and form.validate_on_submit() and action != "preview":
        hold(post if post.id else None)
        if form.version.data in (None, "", post.version):
            return save(post, form, action)
        form.version.data = post.version
        return render("post_form.html", form=form, post=post, is_conflict=True), 409
    if not form.is_submitted():
        form.version.data = post.version
    preview = action == "preview" and not form.errors
    return render("post_form.html", form=form, post=post, preview=preview), form.status


def add_picture(form: forms.PostForm) -> None:
    """Keep the picture that was sent, and put it at the end of the text."""
    if [name for name in ("csrf_token", "description") if not form[name].validate(form)]:
        return
    try:
        with security.slot(security.shrinking):
            file = request.files.get("picture")
            webp, size = pictures.to_webp(file.stream if file else BytesIO())
    except ValueError as error:
        form.picture.errors = [str(error)]
        return
    picture = Picture.add(current_user.id, webp, size)
    db.session.commit()
    form.add_picture(url_for("blog.show_picture", name=picture.name))
    flash("The picture is at the end of the text.")


def save(post: Post, form: forms.PostForm, action: str) -> ResponseReturnValue:
    """Take over what was typed, and lead to the post; a second click, to the post of the first."""
    done = "Your changes are saved." if post.is_published else "Your post is published."
    typed = {"title": form.title.data, "body": form.body.data}
    if not post.id:
        post = sent_before(Post, author_id=post.author_id, **typed) or post
    if not post.id:
        security.check_texts(Post)
    elif post.is_published and (post.title, post.body) != tuple(typed.values()):
        post.updated_at = database.now()
    post.title, post.body = typed.values()
    post.tags, post.comments_closed = form.tag_names(), form.comments_closed.data
    post.published_at = form.published_at(post.published_at, action)
    db.session.add(post)
    db.session.commit()
    if not post.is_published:
        done = "Your draft is saved." if post.is_draft else "Your post is scheduled."
    flash(done)
    return redirect(post_url(post), 303)


@blog.get("/pictures/<name>")
def show_picture(name: str) -> ResponseReturnValue:
    """A picture of a post. Whoever knows its name may see it, which nobody guesses."""
    query = sa.select(Picture.webp).join(User).where(User.banned_at.is_(None))
    webp = db.first_or_404(query.where(Picture.name == name))
    return Response(webp, mimetype="image/webp", headers={"Cache-Control": cache.FOREVER})


@blog.get("/drafts")
@login_required
def drafts() -> ResponseReturnValue:
    """One's own drafts and scheduled posts."""
    return show_list(Post.unpublished_by(current_user), heading="Your drafts")


@blog.route("/posts/<id:id>/delete", methods=["GET", "POST"])
@login_required
def delete_post(id: int) -> ResponseReturnValue:
    """Ask, then delete a post with its comments. 403 unless it is yours or the blog is."""
    return delete(editable_post(id), "delete_post.html", url_for("blog.home"))


def editable_post(id: int) -> Post:
    """The post; 404 if there is none, 403 if it is not to change."""
    post = visible_post(id)
    if not post.is_editable_by(current_user):
        abort(403)
    return post


def hold(text: Post | Comment | None = None) -> None:
    """Lock one's account and the text until the commit, and read the text again.

    400 if one was banned meanwhile, 404 if the text was deleted.
    """
    if not User.hold(current_user.id):
        logout_user()
        ask_to_log_in()
    if text:
        same = sa.select(type(text)).where(type(text).id == text.id)
        db.first_or_404(locked(same, of=type(text)))


def delete(text: Post | Comment, question: str, back: str) -> ResponseReturnValue:
    """Ask the question, a template, or delete the text and lead back to that path."""
    form = forms.Form()
    if not form.validate_on_submit():
        return render(question, form=form, text=text), form.status
    hold(text)
    db.session.delete(text)
    db.session.commit()
    flash("It is deleted.")
    return redirect(back, 303)


# Comments -----------------------------------------------------------------------------------------


@blog.post("/posts/<id:id>/comments")
@login_required
def new_comment(id: int) -> ResponseReturnValue:
    """Comment on a post. 404 if it is deleted meanwhile, 403 if it takes no comments."""
    post = db.first_or_404(sa.select(Post).where(Post.id == id, Post.is_published))
    form = forms.CommentForm()
    if post.comments_closed:
        security.note_refusal("Comments on the post are closed", form.body.data)
        abort(403, "This post takes no more comments.")
    if not form.validate_on_submit():
        return render("comment_form.html", form=form, post=post), form.status
    hold()
    typed = {"post_id": id, "author_id": current_user.id, "body": form.body.data}
    comment = sent_before(Comment, **typed)
    if not comment:
        security.check_texts(Comment)
        comment = Comment(**typed, post=post, author=db.session.get(User, current_user.id))
        try:
            take(comment)
        except sa.exc.IntegrityError:
            db.session.rollback()
            abort(404)
    return redirect(post_url(post, f"comment-{comment.id}"), 303)


def take(comment: Comment) -> None:
    """Save a comment that is new or changed: shown, or waiting for approval."""
    if comment.must_wait(current_app.config["MODERATION"]):
        comment.state = "waiting"
        flash("Your comment waits for approval. Until then nobody else reads it.")
    db.session.add(comment)
    db.session.commit()


@blog.route("/comments/<id:id>/edit", methods=["GET", "POST"])
@login_required
def edit_comment(id: int) -> ResponseReturnValue:
    """Change a comment of one's own, while it is fresh. 403 otherwise."""
    comment = visible_comment(id)
    if not comment.is_editable_by(current_user):
        abort(403, f"Only its author edits a comment, and for {COMMENT_EDIT_MINUTES} minutes.")
    form = forms.CommentForm(obj=comment)
    if not form.validate_on_submit():
        return render("comment_form.html", form=form, post=comment.post), form.status
    hold(comment)
    form.populate_obj(comment)
    if db.session.is_modified(comment):
        comment.updated_at = database.now()
        take(comment)
    return redirect(post_url(comment.post, f"comment-{comment.id}"), 303)


@blog.post("/comments/<id:id>/approve")
@login_required
def approve_comment(id: int) -> ResponseReturnValue:
    """Show a comment that waits. 403 unless the post or the blog is yours."""
    comment = visible_comment(id)
    if not comment.post.is_editable_by(current_user):
        abort(403)
    forms.require_token()
    if not User.hold(comment.author_id):
        abort(403)
    hold(comment)
    owner.approve(comment)
    db.session.commit()
    return redirect(post_url(comment.post, f"comment-{comment.id}"), 303)


@blog.route("/comments/<id:id>/delete", methods=["GET", "POST"])
@login_required
def delete_comment(id: int) -> ResponseReturnValue:
    """Ask, then delete a comment. 403 unless it, the post or the blog is yours."""
    comment = visible_comment(id)
    if not comment.is_deletable_by(current_user):
        abort(403)
    return delete(comment, "delete_comment.html", post_url(comment.post, "comments"))


def visible_comment(id: int) -> Comment:
    """The comment; 404 if there is none."""
    comment: Comment = db.first_or_404(Comment.visible_to(current_user).where(Comment.id == id))
    return comment


# Signing in ---------------------------------------------------------------------------------------


@blog.route("/signup", methods=["GET", "POST"])
def sign_up() -> ResponseReturnValue:
    """Make an account and log in to it. 403 where sign-up is closed, or needs an invitation."""
    invitation = security.invitation_of(request.args.get("invitation", ""))
    config = current_app.config
    rules = {
        "may": invitation.get("may", config["NEW_ACCOUNTS_MAY"]),
        "signup": config["SIGNUP"],
        "invitation": invitation.get("id"),
    }
    if not User.may_be_created(rules["signup"], rules["invitation"]):
        abort(403, NO_SIGN_UP[config["SIGNUP"]])
    form = forms.SignUpForm()
    form.name = form.username.data or ""
    if form.validate_on_submit():
        security.spend({"sign-up by address": security.address()})
        password_hash = security.hash_password(form.password.data)
        try:
            return welcome(User.create(form.username.data, password_hash, **rules), keep=False)
        except PermissionError:  # somebody was faster with it
            abort(403, NO_SIGN_UP["invite"])
        except sa.exc.IntegrityError:
            db.session.rollback()
            form.username.errors = [forms.TAKEN]
    is_first = User.may_be_created("closed", None)  # as no other account may
    context = {"form": form, "is_invited": bool(invitation), "is_first": is_first}
    return render("sign_up.html", **context), form.status


@blog.route("/login", methods=["GET", "POST"])
def log_in() -> ResponseReturnValue:
    """Log in, then go back to where it was asked for."""
    form = forms.LogInForm()
    if form.validate_on_submit():
        name, address = form.username.data.lower(), security.address()
        tries = {
            "log-in by name and address": f"{name} {address}",
            "log-in by name": name,
            "log-in by address": address,
        }
        security.spend(tries)
        user = db.session.scalar(User.named(name))
        stored = user.password_hash if user else ""
        if security.is_password_of(user, form.password.data) and user:
            security.give_back(tries)
            if security.is_still(stored, user) and not user.banned_at:
                return welcome(user, keep=form.remember.data)
            db.session.commit()
        form.form_errors.append("This username and password do not belong together.")
    return render("log_in.html", form=form), form.status


@blog.route("/password/<token>", methods=["GET", "POST"])
def reset_password(token: str) -> ResponseReturnValue:
    """Set a new password through a link of the owner's, once. 404 if it is over."""
    user = security.user_of_reset(token)
    if not user:
        abort(404, "This link has been used, or its time is over. Ask the owner for another.")
    form = forms.PasswordForm()
    form.name = user.username
    if not form.validate_on_submit():
        return render("password.html", form=form), form.status
    password_hash = security.hash_password(form.password.data)
    if security.user_of_reset(token) != user:
        abort(404)
    user.change_password(password_hash)
    db.session.commit()
    flash("Your password is changed. Log in with the new one.")
    return redirect(url_for("blog.log_in"), 303)


def welcome(user: User, keep: bool) -> ResponseReturnValue:
    """Log the user in and lead to `next`, if that is a page of this site, or home."""
    security.log_in(user, keep)
    db.session.commit()
    return redirect(security.safe_path(request.args.get("next")) or url_for("blog.home"), 303)


@blog.post("/logout")
def log_out() -> ResponseReturnValue:
    """End this browser's session."""
    forms.require_token()
    security.log_out()
    db.session.commit()
    return redirect(url_for("blog.home"), 303)


@security.login_manager.unauthorized_handler
def ask_to_log_in() -> ResponseReturnValue:
    """Lead to the log-in page; but a text that was sent comes back, status 400."""
    if request.method == "POST":
        abort(400, "You are not logged in any more, so nothing was saved yet.")
    return redirect(url_for("blog.log_in", next=iri_to_uri(request.full_path.rstrip("?"))), 303)


# Account ------------------------------------------------------------------------------------------


@blog.route("/account", methods=["GET", "POST"])
@login_required
def account() -> ResponseReturnValue:
    """What others are told about oneself, and the pictures that no post shows any more."""
    form = forms.AccountForm(obj=current_user)
    if form.validate_on_submit():
        form.populate_obj(current_user)
        db.session.commit()
        flash("Your account is changed.")
        return redirect(url_for("blog.account"), 303)
    return render("account.html", form=form, pictures=Picture.unused_by(current_user)), form.status


@blog.route("/account/password", methods=["GET", "POST"])
@login_required
def change_password() -> ResponseReturnValue:
    """Set a new password, which logs out every other browser."""
    form = forms.NewPasswordForm()
    form.name = current_user.username
    if form.validate_on_submit() and is_current_password(form):
        stored = current_user.password_hash
        password_hash = security.hash_password(form.password.data)
        if security.is_still(stored, current_user):
            current_user.change_password(password_hash, keep=current_user.session_id)
            db.session.commit()
            flash("Your password is changed, and every other browser logged out.")
            return redirect(url_for("blog.account"), 303)
        form.current.errors = ["This is not your password any more."]
    return render("password.html", form=form), form.status


def is_current_password(form: forms.CurrentPasswordForm) -> bool:
    """Whether it is typed in the form, which says so if not."""
    tries = {"own password": current_user.username}
    security.spend(tries)
    is_right = security.is_password_of(current_user, form.current.data)
    if is_right:
        security.give_back(tries)
    else:
        form.current.errors = ["This is not your password."]
    return is_right


@blog.get("/account/export")
@login_required
def export() -> ResponseReturnValue:
    """One's own data in a zip: the account, posts, comments, pictures."""
    file = BytesIO()
    archive.export(file, current_user)
    headers = {"Content-Disposition": f'attachment; filename="{current_user.username}.zip"'}
    return Response(file.getvalue(), mimetype="application/zip", headers=headers)


@blog.post("/account/sessions")
@login_required
def log_out_everywhere() -> ResponseReturnValue:
    """End every session of the account, this one too."""
    forms.require_token()
    current_user.end_sessions()
    security.log_out()
    db.session.commit()
    return redirect(url_for("blog.home"), 303)


@blog.route("/account/delete", methods=["GET", "POST"])
@login_required
def delete_account() -> ResponseReturnValue:
    """Ask, then delete the account and its posts; the comments go too, or stay without a name."""
    form = forms.LeaveForm()
    if form.validate_on_submit() and is_current_password(form):
        if current_user.is_needed:
            abort(403, "You are the only owner. Make somebody else an owner first.")
        hold()
        current_user.leave(with_comments=form.comments.data)
        security.log_out()
        db.session.commit()
        flash("Your account is deleted.")
        return redirect(url_for("blog.home"), 303)
    return render("delete_account.html", form=form), form.status


@blog.post("/account/pictures")
@login_required
def delete_picture() -> ResponseReturnValue:
    """Delete a picture of one's own that no post shows."""
    forms.require_token()
    for picture in Picture.unused_by(current_user):
        if picture.name == request.form.get("picture"):
            db.session.delete(picture)
    db.session.commit()
    return redirect(url_for("blog.account", _anchor="pictures"), 303)


# Feeds --------------------------------------------------------------------------------------------


@blog.get("/posts/<id:id>/feed.xml")
def comment_feed(id: int) -> ResponseReturnValue:
    """A post's newest comments in Atom."""
    post = db.first_or_404(Post.published().where(Post.id == id))
    comments = Comment.under(post, Visitor())
    return show_feed("xml", comments, f"Comments on {post.title}", post_url(post), post=post)


def show_feed(
    kind: str, entries: sa.Select[Any], title: str, page: str, **context: Any
) -> ResponseReturnValue:
    """The first entries for feed readers, which ask again and mostly get a 304."""
    context |= {"entries": db.session.scalars(entries.limit(FEED_MAX)).all(), "base": base_url()}
    try:
        text = render(
            f"feed.{kind}", title=title or current_app.config["NAME"], page=page, **context
        )
    except ValueError:  # of links that cannot be made absolute
        abort(400, "The name of this host is none.")
    return Response(text, content_type=f"{FEEDS[kind]}; charset=utf-8")


@blog.get("/sitemap.xml")
@blog.get("/sitemap-<id:part>.xml")
def sitemap(part: int | None = None) -> ResponseReturnValue:
    """The posts for search engines; where there are many, an index of parts by their ids."""
    last = db.session.scalar(sa.select(sa.func.max(Post.id))) or 1
    parts = range(1, (last - 1) // SITEMAP_MAX + 2)
    if part and part not in parts:
        abort(404)
    end = (part or 1) * SITEMAP_MAX
    query = Post.titles().where(Post.id > end - SITEMAP_MAX, Post.id <= end)
    is_index = not part and len(parts) > 1
    posts = [] if is_index else db.session.scalars(query).all()
    index = parts if is_index else []
    page = render("sitemap.xml", posts=posts, index=index, base=base_url())
    return Response(page, mimetype="application/xml")


@blog.get("/robots.txt")
def robots() -> ResponseReturnValue:
    """What search engines may read."""
    return Response(render("robots.txt", base=base_url()), mimetype="text/plain")


def base_url() -> str:
    """The blog's public address, without a slash at its end."""
    return str(current_app.config["URL"] or request.url_root).rstrip("/")


# Errors -------------------------------------------------------------------------------------------


def show_error(error: exceptions.HTTPException, **context: Any) -> ResponseReturnValue:
    """The page of an error; what was typed comes back on it."""
    # What could not be read raises again; what was read is remembered here.
    sent, args = (vars(request).get(name, {}) for name in ("form", "args"))
    typed = {name: text for name, text in sent.items() if name not in NOT_SHOWN}
    if error.code == exceptions.TooManyRequests.code:
        security.note_refusal("Too often", " ".join(typed.values()) or request.path)
    response = current_app.make_response(error)
    context |= {"typed": typed, "query": args.get("q", "")}
    response.set_data(render("error.html", error=error, **context))
    return response


def show_loss(_error: ObjectDeletedError) -> ResponseReturnValue:
    """The page of what somebody has deleted meanwhile; maybe it was one's account."""
    return show_error(exceptions.NotFound(), current_user=Visitor())


def show_failure(error: exceptions.InternalServerError) -> ResponseReturnValue:
    """The page of a fault of ours; Flask has logged its trace."""
    db.session.rollback()
    is_away = isinstance(error.original_exception, database.UNAVAILABLE)
    away = exceptions.ServiceUnavailable(retry_after=RETRY_AFTER)
    return show_error(away if is_away else error, current_user=Visitor())
