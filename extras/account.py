"""One's own account: the display name, the password, the sessions, and its end."""

import secrets

import sqlalchemy as sa
from flask import Blueprint, abort, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from wtforms import Field, ValidationError, fields
from wtforms.validators import InputRequired

from app import end_session
from core.database import atomic, db
from core.plugins import Blog
from core.rendering import INVISIBLE
from core.security import check_password, hash_password, private
from forms import RESERVED_NAMES, Form, Length, LineField, PasswordForm, SecretField, TextField
from models import DELETED_NAME, DELETED_PREFIX, DISPLAY_NAME_MAX, IS_PENDING, Comment, User

ABOUT_MAX = 500  # characters; a paragraph

pages = Blueprint("account", __name__)


class AccountForm(Form):
    """What others are told about an account."""

    display_name = LineField("Display name", [Length(0, DISPLAY_NAME_MAX)])
    about = TextField("About you", [Length(0, ABOUT_MAX)])

    def validate_display_name(self, field: Field) -> None:
        """Refuse what would disturb the text around the name."""
        if INVISIBLE.search("".join(field.raw_data or [])):
            raise ValidationError("It has characters that cannot be seen. Type it anew.")
        other = db.session.scalar(User.named(field.data).where(User.id != current_user.id))
        if other or field.data.lower() in RESERVED_NAMES:
            raise ValidationError("This is the name of somebody else. Choose another.")


class CurrentPasswordForm(Form):
    """The password that the account has now."""

    current = SecretField("Current password", [InputRequired("Enter your current password.")])

    def validate_on_submit(self) -> bool:
        """Check the password last: it takes 0.15 s, and failures are counted."""
        if not super().validate_on_submit():
            return False
        is_right = check_password(current_user.password_hash, self.current.data)
        if not is_right:
            self.current.errors = ["This is not your password."]
        return is_right


class NewPasswordForm(CurrentPasswordForm, PasswordForm):
    """A new password instead of the current one."""


class DeleteAccountForm(CurrentPasswordForm):
    """The end of an account."""

    comments = fields.BooleanField("Delete my comments too; otherwise they stay without my name")


def init_app(app: Blog) -> None:
    """Plug in."""
    app.slots["user_navigation"].append("account/navigation.html")
    app.register_blueprint(pages)


@pages.route("/account", methods=["GET", "POST"], endpoint="show")
@private
@login_required
def show_account() -> ResponseReturnValue:
    """What others are told about the user, to be changed."""
    form = AccountForm({"display_name": current_user.display_name, "about": current_user.about})
    if not form.validate_on_submit():
        return render_template("account/show.html", form=form), form.status
    with atomic():
        form.populate_obj(current_user)
    flash("Your account is changed.")
    return redirect(url_for("account.show"), 303)


@pages.route("/account/password", methods=["GET", "POST"], endpoint="change_password")
@private
@login_required
def change_password() -> ResponseReturnValue:
    """Set a new password, which logs out every other browser."""
    form = NewPasswordForm()
    form.account_name = current_user.username
    if form.validate_on_submit():
        unchanged = User.with_password(current_user.id, current_user.password_hash)
        password_hash = hash_password(form.password.data)
        with atomic():
            user = db.session.scalar(unchanged)
            if user:
                user.change_password(password_hash, keep=user.session_id)
        if user:
            flash("Your password is changed, and every other browser logged out.")
            return redirect(url_for("account.show"), 303)
        form.current.errors = ["This is not your password any more."]
    return render_template("account/password.html", form=form), form.status


@pages.post("/account/sessions", endpoint="end_sessions")
@login_required
def end_sessions() -> ResponseReturnValue:
    """End every session of the account, this one too."""
    with atomic():
        current_user.end_sessions()
        end_session()
    return redirect(url_for("posts.home"), 303)


@pages.route("/account/delete", methods=["GET", "POST"], endpoint="delete")
@private
@login_required
def delete_account() -> ResponseReturnValue:
    """Ask, then delete the account and its posts; the comments go too, or stay without a name."""
    form = DeleteAccountForm()
    if not form.validate_on_submit():
        return render_template("account/delete.html", form=form), form.status
    with atomic():
        if current_user.is_only_owner():
            abort(403, "You are the only owner. Make somebody else an owner first.")
        delete_user(current_user, form.comments.data)
        end_session()
    flash("Your account is deleted.")
    return redirect(url_for("posts.home"), 303)


def delete_user(user: User, with_comments: bool) -> None:
    """Delete the account with its posts.

    A row without a name stays for comments that stay, and for an invitation, to be used once.
    """
    user.delete_texts(with_comments)
    if with_comments and not user.invitation:
        db.session.delete(user)
        return
    db.session.execute(sa.delete(Comment).where(Comment.author_id == user.id, IS_PENDING))
    user.end_sessions()
    user.username = f"{DELETED_PREFIX}{user.id}-{secrets.token_hex(3)}"
    user.display_name = DELETED_NAME
    user.role = "member"
    user.password_hash = "!"
    user.banned_at = None
