"""Moderation: comments that are shown only once the owner or the post's author approves them."""

import sqlalchemy as sa
from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from sqlalchemy.orm import joinedload

from app import comment_url, visible_comment
from core import rendering
from core.database import atomic, db, lock_or_404
from core.plugins import Blog, comment_saved
from models import IS_PENDING, Comment, Post, User

LINKS_MAX = 2  # in a comment that is shown at once where others are
QUEUE_MAX = 20  # comments on a page; each decision leads to the next
COUNT_MAX = 1_000  # pending comments that are counted for the navigation

pages = Blueprint("moderation", __name__)


def init_app(app: Blog) -> None:
    """Plug in."""
    comment_saved.connect(moderate, app)
    app.add_template_global(count_pending)
    app.slots["owner_navigation"].append("moderation/navigation.html")
    app.slots["comment_actions"].append("moderation/approve.html")
    app.register_blueprint(pages)


def pending() -> sa.Select[Comment]:
    """`Select` of the pending Comments, oldest first, with their Posts."""
    query = sa.select(Comment).where(IS_PENDING, Comment.author_id.not_in(User.banned()))
    return query.order_by(Comment.id).options(joinedload(Comment.post))


def count_pending() -> int:
    """How many comments are pending, up to COUNT_MAX + 1."""
    some = pending().with_only_columns(Comment.id).limit(COUNT_MAX + 1).subquery()
    return db.session.scalar(sa.select(sa.func.count()).select_from(some)) or 0


def moderate(_sender: object, comment: Comment, is_new: bool) -> None:
    """Keep a comment pending that others are not to read yet."""
    if needs_approval(comment, is_new):
        comment.state = "pending"


def needs_approval(comment: Comment, is_new: bool) -> bool:
    """Whether a comment is shown only once approved, as BLOG_MODERATION says."""
    moderation = current_app.config["MODERATION"]
    if moderation == "none" or comment.post.is_editable_by(comment.author):
        return False
    if moderation == "all":
        return True
    if rendering.markdown(comment.body, small=True).count("<a ") > LINKS_MAX:
        return True
    approved = sa.select(Comment.id).join(Comment.post).where(Comment.state == "shown")
    approved = approved.where(Comment.author_id == comment.author_id)
    approved = approved.where(Post.author_id != comment.author_id)
    if is_new:
        approved = approved.where(Comment.id != comment.id)
    return not db.session.scalar(approved.limit(1))


def approve(comment: Comment) -> None:
    """Show a comment, if its text is the one that was read with the form."""
    if request.form.get("version") in (None, comment.version):
        comment.state = "shown"
    else:
        flash("The comment was changed meanwhile. Read it again.")


@pages.post("/comments/<id:id>/approve", endpoint="approve")
@login_required
def approve_comment(id: int) -> ResponseReturnValue:
    """Show a pending comment. 403 unless the post or the blog is the user's."""
    comment = visible_comment(id)
    if not comment.post.is_editable_by(current_user):
        abort(403)
    with atomic():
        approve(lock_or_404(Comment, id))
    return redirect(comment_url(comment), 303)


@pages.get("/owner/moderation", endpoint="queue")
def show_queue() -> ResponseReturnValue:
    """The pending comments, oldest first."""
    comments = db.session.scalars(pending().limit(QUEUE_MAX)).all()
    return render_template("moderation/queue.html", comments=comments)


@pages.post("/owner/moderation/<id:id>", endpoint="decide")
def decide(id: int) -> ResponseReturnValue:
    """Approve or delete a pending comment, or ban its author; then on to the next."""
    action = request.form.get("action")
    with atomic():
        query = pending().where(Comment.id == id).with_for_update(of=Comment)
        comment = db.session.scalar(query)
        if comment and action == "approve":
            approve(comment)
        elif comment and action == "delete":
            db.session.delete(comment)
        elif comment and action == "ban" and not comment.author.is_owner:
            comment.author.ban()
    return redirect(url_for("moderation.queue"), 303)
