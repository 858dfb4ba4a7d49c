"""The forms to sign up, log in, post and comment: fields, rules, and messages that help."""

import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC
from functools import cache

from flask import current_app, request
from flask_wtf import FlaskForm
from wtforms import Field, ValidationError, fields, widgets
from wtforms.validators import DataRequired, EqualTo, InputRequired, Optional, StopValidation

from core.database import db, now
from core.pagination import EARLIEST, NEVER
from core.rendering import normalize_text
from core.security import log_refusal
from models import DELETED_PREFIX, TEXT_FIELDS, TITLE_MAX, USERNAME_MAX, Post, User

USERNAME_MIN = 2  # characters
PASSWORD_MIN, PASSWORD_MAX = 8, 128  # characters; NIST SP 800-63B asks for 8 and at least 64
POST_MAX = 50_000  # characters; a long essay
COMMENT_MAX = 5_000  # characters; two pages
NORMALIZED_MAX = 1_000  # characters; Unicode normalization of longer hostile texts is slow
USERNAME = re.compile("[A-Za-z0-9_-]*")
USERNAME_TAKEN = "This name is taken. Choose another."
# Names that would look like the site itself.
RESERVED_NAMES = set(
    "admin administrator anonymous deleted everyone guest help mod moderator nobody official owner "
    "root security staff support system webmaster".split()
)
SUBMISSION = re.compile("[A-Za-z0-9_-]{1,64}")


# Fields -------------------------------------------------------------------------------------------


class TextField(fields.TextAreaField):
    """Text on many lines."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        """Take the first value, normalized."""
        self.data = normalize_text("".join(valuelist[:1]))


class LineField(fields.StringField):
    """Text on one line, without space around it."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        """Take the first value, normalized, with single spaces."""
        self.data = " ".join(normalize_text("".join(valuelist[:1])).split())


class SecretField(fields.PasswordField):
    """A password, in the one Unicode form that is the same from every keyboard."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        """Take the first value; one that is too long for any password, as it is."""
        text = "".join(valuelist[:1])
        self.data = text if len(text) > NORMALIZED_MAX else unicodedata.normalize("NFC", text)


class LocalTimeField(fields.DateTimeLocalField):
    """A date with a time."""

    def process_formdata(self, valuelist: list[str]) -> None:
        """Take the first value; what is no time comes back as it was typed."""
        try:
            super().process_formdata(valuelist)
        except ValueError:
            self.widget = widgets.TextInput()  # a field for times cannot show it
            raise


def new_submission() -> str:
    """A random value for one form."""
    return secrets.token_urlsafe(16)


class SubmissionField(fields.HiddenField):
    """An idempotency key, which tells a second click from a second text."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        """Take the first value; instead of a missing or odd one, a new one."""
        text = "".join(valuelist[:1])
        self.data = text if SUBMISSION.fullmatch(text) else new_submission()


def may_be_empty(_form: FlaskForm, field: Field) -> None:
    """A validator that skips the others where nothing is visible; `Optional` asks what was sent."""
    if not field.data:
        raise StopValidation


class Length:
    """A validator of a text's length. No `maxlength`: with it, browsers cut what is pasted."""

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self.field_flags = {"most": most}  # for the hint

    def __call__(self, _form: FlaskForm, field: Field) -> None:
        """Refuse what was damaged, is too short or too long, and say by how much.

        What was imported may stay as long as it is.
        """
        most = max(self.most, len(field.object_data or ""))
        if "\ufffd" in field.data:
            raise ValidationError("Some characters were damaged on their way (�). Replace them.")
        if not self.least <= len(field.data) <= most:
            bounds = f"{self.least:,} to {most:,}"
            raise ValidationError(f"It has {len(field.data):,} characters; it can have {bounds}.")


@cache
def common_passwords() -> frozenset[str]:
    """What guessers try first: 30,000 passwords, in lower case."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # takes a tenth of the blog's start

    return frozenset(FREQUENCY_LISTS["passwords"])


# Forms --------------------------------------------------------------------------------------------


class Form(FlaskForm):
    """The base of every form; on its own, a form with nothing but its CSRF token."""

    def __init__(self, data: Mapping[str, object] | None = None) -> None:
        """Read what was sent as a form, and neither JSON nor files; `data` is for the fields."""
        super().__init__(request.form if request.method == "POST" else None, data=data)

    @property
    def status(self) -> int:
        """The HTTP status of the page that shows the form."""
        if not self.errors:
            return 200
        return 400 if "csrf_token" in self.errors else 422


class HoneypotForm(Form):
    """A form with a hidden field that only bots fill in."""

    website = fields.HiddenField()

    def validate(self, extra_validators: Mapping[str, Sequence[object]] | None = None) -> bool:
        """Refuse what bots send, with a sentence for the person who filled it in after all."""
        super().validate(extra_validators)
        if self.website.data and "csrf_token" not in self.errors:
            self.form_errors.append("A field that nobody sees was filled in. Please send it again.")
            text = self.data.get("body", self.data.get("username"))
            log_refusal("The field that nobody sees was filled in", text)
        return not self.errors


class LogInForm(Form):
    """Username and password of an account."""

    username = LineField("Username", [DataRequired("Enter your username.")])
    password = SecretField("Password", [InputRequired("Enter your password.")])
    remember = fields.BooleanField("Keep me signed in for 30 days")


class PasswordForm(Form):
    """A new password for the account whose username is `account_name`, which the view sets."""

    account_name = ""
    password = SecretField(
        "Password", [InputRequired("Choose a password."), Length(PASSWORD_MIN, PASSWORD_MAX)]
    )
    confirm = SecretField("Password again", [EqualTo("password", "The two passwords differ.")])

    def validate_password(self, field: Field) -> None:
        """Refuse what a guesser tries first."""
        if field.data.lower() == self.account_name.lower():
            raise ValidationError("The password must differ from the username.")
        if field.data.lower() in common_passwords():
            raise ValidationError("Many people use this password. Choose another.")


class SignUpForm(HoneypotForm, PasswordForm):
    """What a new account needs. That the name is free is checked here, and ensured by an index."""

    username = LineField(
        "Username", [DataRequired("Choose a username."), Length(USERNAME_MIN, USERNAME_MAX)]
    )

    def validate_username(self, field: Field) -> None:
        """Refuse names that mislead, or look odd in a URL."""
        name = field.data.lower()
        if not USERNAME.fullmatch(name):
            raise ValidationError("Use only letters a to z, digits, _ and -.")
        if name in RESERVED_NAMES or name.startswith(DELETED_PREFIX):
            raise ValidationError("This name is reserved. Choose another.")
        if db.session.scalar(User.named(name)):
            raise ValidationError(USERNAME_TAKEN)


class PostForm(Form):
    """The text of a post, and when it is published; with the parts that extras add."""

    title = LineField("Title", [may_be_empty, Length(1, TITLE_MAX)])
    body = TextField("Text", [DataRequired("Write something."), Length(1, POST_MAX)])
    publish_at = LocalTimeField("Publish at", [Optional()], format="%Y-%m-%dT%H:%M")
    comments_closed = fields.BooleanField("No new comments")
    submission = SubmissionField(default=new_submission)
    version = fields.HiddenField()  # of the post that is edited

    def __init__(self, post: Post, parts: Mapping[str, type["PostFormPart"]]) -> None:
        """Begin with the post as it is, and a part of each kind."""
        at = post.published_at if post.is_scheduled else post.publish_at
        at = at and at.astimezone(current_app.config["ZONE"])
        data = {name: getattr(post, name) for name in (*TEXT_FIELDS, "comments_closed")}
        super().__init__(data | {"publish_at": at and at.replace(tzinfo=None)})
        if self.is_submitted() and not self.publish_at.raw_data:
            self.publish_at.data = None  # a field that was not sent is empty
        self.parts = {name: part(post) for name, part in parts.items()}

    def validate(self, extra_validators: Mapping[str, Sequence[object]] | None = None) -> bool:
        """Validate the form and each of its parts."""
        results = [super().validate(extra_validators)]
        results += [part.validate() for part in self.parts.values()]
        return all(results)

    @property
    def errors(self) -> dict[str, Sequence[str]]:
        """The errors of the form and of its parts."""
        errors = dict(super().errors)
        for part in self.parts.values():
            errors |= part.errors
        return errors

    def validate_publish_at(self, field: Field) -> None:
        """Read the time in the blog's zone. One that the clocks skip comes back changed."""
        if not field.data:
            raise ValidationError("Write it like 2031-12-24T18:30.")
        if not EARLIEST.year <= field.data.year < NEVER.year:
            raise ValidationError("Choose a time between the years 1000 and 9998.")
        at = field.data.replace(tzinfo=current_app.config["ZONE"])
        if at.astimezone(UTC).astimezone(at.tzinfo).replace(tzinfo=None) != field.data:
            raise ValidationError("The clocks skip this time. Choose another.")
        field.data = at

    def has_texts_of(self, post: Post) -> bool:
        """Whether the texts in the form are those of the post."""
        return all(self[name].data == getattr(post, name) for name in TEXT_FIELDS)

    def populate_post(self, post: Post, action: str) -> None:
        """Put what was typed into the post.

        `action` is "publish", "draft", or "save", which keeps drafts and scheduled posts as such.
        """
        if post.id and post.is_published and not self.has_texts_of(post):
            post.updated_at = now()
        for name in TEXT_FIELDS:
            setattr(post, name, self[name].data)
        post.comments_closed = self.comments_closed.data
        typed = self.publish_at.data
        if action == "draft" or (action == "save" and post.is_draft):
            date = post.publish_at if post.is_draft else post.published_at
            is_kept = post.published_at <= now() or not self.publish_at.raw_data
            post.publish_at = typed or (date if is_kept else None)
            post.published_at = NEVER
        else:
            kept = post.published_at if action == "save" else min(post.published_at, now())
            post.published_at, post.publish_at = typed or kept, None
        for part in self.parts.values():
            part.populate_post(post)


class PostFormPart(Form):
    """Fields that an extra adds to the form of a post. They are sent with it, under one token."""

    class Meta:
        """WTForms' options."""

        csrf = False

    def __init__(self, post: Post) -> None:
        """Begin with the post as it is."""
        super().__init__()

    def populate_post(self, post: Post) -> None:
        """Put what was typed into the post, inside of the transaction that saves it."""


class CommentForm(HoneypotForm):
    """The text of a comment."""

    body = TextField("Your comment", [DataRequired("Write something."), Length(1, COMMENT_MAX)])
    submission = SubmissionField(default=new_submission)
