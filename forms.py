"""One class for each form: its fields, its rules, and messages that a person can act on."""

import re
import secrets
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import current_app, request
from flask_login import current_user
from flask_wtf import FlaskForm
from wtforms import Field, ValidationError, fields
from wtforms.validators import DataRequired, EqualTo, InputRequired, Optional
from zxcvbn.frequency_lists import FREQUENCY_LISTS

import rendering
from database import db, now
from models import (
    DISPLAY_NAME_MAX,
    EPOCH,
    GONE,
    NEVER,
    TAG_MAX,
    TITLE_MAX,
    USERNAME_MAX,
    User,
)
from security import note_refusal

TAKEN = "This name is taken. Choose another."
USERNAME_MIN = 2  # characters
PASSWORD_MIN, PASSWORD_MAX = 8, 128  # characters; NIST SP 800-63B asks for 8 and at least 64
POST_MAX = 50_000  # characters; a long essay
NORMALIZED_MAX = 1_000  # characters of a password or of all tags; what is longer is refused
TAGS_MAX = 10  # of a post; more help nobody
COMMENT_MAX = 5_000  # characters; two pages
ABOUT_MAX = 500  # characters; a paragraph
DESCRIPTION_MAX = 200  # characters; what a screen reader says of a picture
# What shows nothing, turns the direction of the words that follow, or starts a line.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb]"
)
# Names that would make others take somebody for the site itself.
RESERVED = set(
    "admin administrator anonymous deleted everyone guest help mod moderator nobody official owner "
    "root security staff support system webmaster".split()
)
SUBMISSION = re.compile("[A-Za-z0-9_-]{1,64}")
COMMON_PASSWORDS = frozenset(FREQUENCY_LISTS["passwords"])  # what guessers try first


def tidy(text: str) -> str:
    """The text with `\\n` as line ends, without control characters; "" if nothing is visible."""
    text = rendering.CONTROLS.sub("", re.sub(r"\r\n?", "\n", text))
    seen = UNSEEN.sub("", text)
    return text if any(char.isprintable() and not char.isspace() for char in seen) else ""


def is_word(text: str) -> bool:
    """Whether there is a letter, a number or a symbol in it, of any script."""
    return any(unicodedata.category(char)[0] in "LNS" for char in text)


class TextField(fields.TextAreaField):
    """Text on many lines."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = tidy("".join(valuelist[:1]))


class LineField(fields.StringField):
    """Text on one line, without space around it."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = " ".join(tidy("".join(valuelist[:1])).split())


class SecretField(fields.PasswordField):
    """A password, in the one Unicode form that is the same from every keyboard."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        """Take the first value; one that is too long for any password, as it is."""
        text = "".join(valuelist[:1])
        # Hostile texts take a time that grows with the square of their length.
        self.data = text if len(text) > NORMALIZED_MAX else unicodedata.normalize("NFC", text)


def new_submission() -> str:
    """A random value for one form."""
    return secrets.token_urlsafe(16)


class SubmissionField(fields.HiddenField):
    """A random value by which a second click is known; what is missing or odd gets a new one."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        text = "".join(valuelist[:1])
        self.data = text if SUBMISSION.fullmatch(text) else new_submission()


def fit(least: int, most: int) -> Callable[[FlaskForm, Field], None]:
    """A validator of text; unlike `maxlength` it lets no browser cut what is pasted."""

    def check(_form: FlaskForm, field: Field) -> None:
        """Refuse what was damaged, is too short or too long, and say by how much."""
        if "\ufffd" in field.data:
            raise ValidationError("Some characters were damaged on their way (�). Replace them.")
        if not least <= len(field.data) <= most:
            bounds = f"{least:,} to {most:,}"
            raise ValidationError(f"It has {len(field.data):,} characters; it can have {bounds}.")

    check.field_flags = {"most": most}  # type: ignore[attr-defined]  # for the hint
    return check


class Form(FlaskForm):
    """The base of every form; on its own, a form with nothing but its CSRF token."""

    def __init__(self, **before: Any) -> None:
        """Read what was sent as a form, and neither JSON nor files; `before` is `data` or `obj`."""
        super().__init__(request.form if request.method == "POST" else None, **before)

    @property
    def status(self) -> int:
        """The HTTP status of the page that shows the form."""
        if not self.errors:
            return 200
        return 400 if "csrf_token" in self.errors else 422


class HumanForm(Form):
    """A form with a field that only machines see and fill in."""

    website = fields.HiddenField()

    def validate(self, extra_validators: Any = None) -> bool:
        """Refuse what machines send, with a sentence for the person who did it after all."""
        super().validate(extra_validators)
        if self.website.data and "csrf_token" not in self.errors:
            self.form_errors.append("A field that nobody sees was filled in. Please send it again.")
            text = self.data.get("body", self.data.get("username"))
            note_refusal("The field that nobody sees was filled in", text)
        return not self.errors


class LogInForm(Form):
    """Username and password of an account."""

    username = LineField("Username", [DataRequired("Enter your username.")])
    password = SecretField("Password", [InputRequired("Enter your password.")])
    remember = fields.BooleanField("Keep me signed in for 30 days")


class PasswordForm(Form):
    """A new password for the account whose username is `name`."""

    name = ""
    password = SecretField(
        "Password", [InputRequired("Choose a password."), fit(PASSWORD_MIN, PASSWORD_MAX)]
    )
    confirm = SecretField("Password again", [EqualTo("password", "The two passwords differ.")])

    def validate_password(self, field: Field) -> None:
        """Refuse what a guesser tries first."""
        if field.data.lower() == self.name.lower():
            raise ValidationError("The password must differ from the username.")
        if field.data.lower() in COMMON_PASSWORDS:
            raise ValidationError("Many people use this password. Choose another.")


class SignUpForm(HumanForm, PasswordForm):
    """What a new account needs. Whether the name is free, the database decides."""

    username = LineField(
        "Username", [DataRequired("Choose a username."), fit(USERNAME_MIN, USERNAME_MAX)]
    )

    def validate_username(self, field: Field) -> None:
        """Refuse names that mislead, or look odd in an address."""
        if not re.fullmatch("[A-Za-z0-9_-]*", field.data):
            raise ValidationError("Use only letters a to z, digits, _ and -.")
        if field.data.lower() in RESERVED or field.data.lower().startswith(GONE):
            raise ValidationError("This name is reserved. Choose another.")
        if db.session.scalar(User.named(field.data)):
            raise ValidationError(TAKEN)


class AccountForm(Form):
    """What others are told about an account."""

    display_name = LineField("Display name", [fit(0, DISPLAY_NAME_MAX)])
    about = TextField("About you", [fit(0, ABOUT_MAX)])

    def validate_display_name(self, field: Field) -> None:
        """Refuse what would disturb the text around the name."""
        if UNSEEN.search("".join(field.raw_data or [])):
            raise ValidationError("It has characters that cannot be seen. Type it anew.")
        namesake = db.session.scalar(User.named(field.data))
        if field.data.lower() in RESERVED or namesake not in (None, current_user):
            raise ValidationError("This is the name of somebody else. Choose another.")


class PostForm(Form):
    """The text of a post, and when it is published."""

    title = LineField("Title", [DataRequired("Give the post a title."), fit(1, TITLE_MAX)])
    body = TextField("Text", [DataRequired("Write something."), fit(1, POST_MAX)])
    tags = LineField("Tags", [fit(0, NORMALIZED_MAX)])
    publish_at = fields.DateTimeLocalField("Publish at", [Optional()], format="%Y-%m-%dT%H:%M")
    comments_closed = fields.BooleanField("No new comments")
    submission = SubmissionField(default=new_submission)
    version = fields.HiddenField()  # of the post that is edited
    picture = fields.FileField("Picture")  # the file itself is in `request.files`
    description = LineField("What it shows", [fit(0, DESCRIPTION_MAX)])

    def add_picture(self, url: str) -> None:
        """Put the picture at that address at the end of the text."""
        description = re.sub(r"([\\\[\]])", r"\\\1", self.description.data)
        before = f"{self.body.data}\n\n" if self.body.data else ""
        self.body.data = f"{before}![{description}]({url})\n"
        self.description.data = ""

    def tag_names(self) -> list[str]:
        """The tags in lower case, each once, in the order of the alphabet."""
        text = self.tags.data.lower()[:NORMALIZED_MAX]
        names = unicodedata.normalize("NFC", text).split(",")
        return sorted({name.strip().lstrip("# ") for name in names} - {""})

    def validate_tags(self, field: Field) -> None:
        """Refuse what would make no address or no sense."""
        names = self.tag_names()
        if len(names) > TAGS_MAX:
            raise ValidationError(f"There are {len(names)} tags; a post can have {TAGS_MAX}.")
        for name in names:
            if len(name) > TAG_MAX:
                raise ValidationError(f"“{name}” is longer than {TAG_MAX} characters.")
            if re.search(r"[/\\]", name) or not is_word(name):
                raise ValidationError(f"“{name}” is no tag: use words, with commas between tags.")

    def validate_publish_at(self, field: Field) -> None:
        """Read the time in the blog's zone, which skips an hour in spring."""
        if not field.data:
            raise ValidationError("Write it like 2031-12-24T18:30.")
        if not EPOCH.year < field.data.year < NEVER.year:
            raise ValidationError("Choose a time between the years 1970 and 9999.")
        at = field.data.replace(tzinfo=current_app.config["ZONE"])
        if at.astimezone(UTC).astimezone(at.tzinfo).replace(tzinfo=None) != field.data:
            raise ValidationError("The clocks skip this time. Choose another.")
        field.data = at

    def published_at(self, before: datetime, action: str) -> datetime:
        """When the post is published that was to be `before`, an aware time."""
        if action == "draft":
            return NEVER
        return self.publish_at.data or min(before, now())


class CommentForm(HumanForm):
    """The text of a comment."""

    body = TextField("Your comment", [DataRequired("Write something."), fit(1, COMMENT_MAX)])
    submission = SubmissionField(default=new_submission)


class CurrentPasswordForm(Form):
    """The password that the account has now."""

    current = SecretField("Current password", [InputRequired("Enter your current password.")])


class NewPasswordForm(CurrentPasswordForm, PasswordForm):
    """A new password instead of the current one."""


class LeaveForm(CurrentPasswordForm):
    """The end of an account."""

    comments = fields.BooleanField("Delete my comments too; otherwise they stay without my name")
