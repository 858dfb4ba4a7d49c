"""One class for each form: its fields, its rules, and messages that a person can act on."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flask_wtf import FlaskForm
from wtforms import BooleanField, Field, PasswordField, StringField, TextAreaField
from wtforms.validators import EqualTo, InputRequired, Regexp, ValidationError
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from models import TITLE_MAX, USERNAME_MAX

USERNAME_MIN = 2  # characters
PASSWORD_MIN, PASSWORD_MAX = 8, 128  # characters; NIST SP 800-63B asks for 8 and at least 64
POST_MAX = 50_000  # characters; a long essay
COMMENT_MAX = 5_000  # characters; two pages
# Names that would make others take somebody for the site itself.
RESERVED = {
    *("admin", "administrator", "anonymous", "deleted", "everyone", "guest", "help", "mod"),
    *("moderator", "nobody", "official", "owner", "root", "security", "staff", "support"),
    *("system", "webmaster"),
}


def tidy(text: str) -> str:
    """The text with `\\n` as its line ends and without control characters but tabs."""
    text = re.sub(r"\r\n?", "\n", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff]", "", text)


def tidy_line(text: str) -> str:
    """The text on one line, without space around it."""
    return " ".join(tidy(text).split())


def normal(password: str) -> str:
    """The password in one Unicode form, so that it is the same from every keyboard."""
    return unicodedata.normalize("NFC", password)


def length(least: int, most: int) -> Callable[[FlaskForm, Field], None]:
    """A validator that counts; unlike `maxlength` it does not let browsers cut what is pasted."""

    def check(_form: FlaskForm, field: Field) -> None:
        count = len(field.data)
        if not least <= count <= most:
            raise ValidationError(
                f"It has {count:,} characters; it can have {least:,} to {most:,}."
            )

    return check


def visible(_form: FlaskForm, field: Field) -> None:
    """A validator that refuses text of nothing but spaces and other characters without a shape."""
    if not any(char.isprintable() and not char.isspace() for char in field.data):
        raise ValidationError("There is nothing to see in it yet.")


@lru_cache(maxsize=1)
def common_passwords() -> frozenset[str]:
    """The passwords that guessers try first, from zxcvbn's list."""
    return frozenset(FREQUENCY_LISTS["passwords"])


class LineField(StringField):
    """Text on one line."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = tidy_line("".join(valuelist[:1]))


class TextField(TextAreaField):
    """Text on many lines."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = tidy("".join(valuelist[:1]))


class SecretField(PasswordField):
    """A password."""

    data: str

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = normal("".join(valuelist[:1]))


class Form(FlaskForm):
    """The base of every form; on its own, a form with nothing but its CSRF token."""

    def validate(self, extra_validators: Any = None) -> bool:
        """Run the fields' validators, and refuse text that was damaged on its way."""
        is_valid = bool(super().validate(extra_validators))
        for field in self:
            if isinstance(field.data, str) and "\ufffd" in field.data:
                field.errors = ["Some characters were damaged on their way (�). Replace them."]
                is_valid = False
        return is_valid

    @property
    def status(self) -> int:
        """The HTTP status of the page that shows the form."""
        if not self.errors:
            return 200
        return 400 if "csrf_token" in self.errors else 422


class LogInForm(Form):
    """Username and password of an account."""

    username = LineField(
        "Username",
        [InputRequired("Enter your username.")],
        render_kw={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"},
    )
    password = SecretField(
        "Password",
        [InputRequired("Enter your password.")],
        render_kw={"autocomplete": "current-password"},
    )
    remember = BooleanField("Keep me signed in for 30 days")


class SignUpForm(Form):
    """What a new account needs. Whether the name is free, the database decides."""

    username = LineField(
        "Username",
        [
            InputRequired("Choose a username."),
            length(USERNAME_MIN, USERNAME_MAX),
            Regexp("^[A-Za-z0-9_-]+$", message="Use only letters a to z, digits, _ and -."),
        ],
        description=f"{USERNAME_MIN} to {USERNAME_MAX} letters a to z, digits, _ or -.",
        render_kw={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"},
    )
    password = SecretField(
        "Password",
        [InputRequired("Choose a password."), length(PASSWORD_MIN, PASSWORD_MAX)],
        description=f"At least {PASSWORD_MIN} characters. Several words are easy to remember.",
        render_kw={"autocomplete": "new-password"},
    )
    confirm = SecretField(
        "Password again",
        [
            InputRequired("Enter the password again."),
            EqualTo("password", "The two passwords differ."),
        ],
        render_kw={"autocomplete": "new-password"},
    )

    def validate_username(self, field: Field) -> None:
        """Refuse names that mislead."""
        if field.data.lower() in RESERVED:
            raise ValidationError("This name is reserved. Choose another.")

    def validate_password(self, field: Field) -> None:
        """Refuse what a guesser tries first."""
        if field.data.lower() == self.username.data.lower():
            raise ValidationError("The password must differ from the username.")
        if field.data.lower() in common_passwords():
            raise ValidationError("Many people use this password. Choose another.")


class PostForm(Form):
    """The text of a post."""

    title = LineField(
        "Title",
        [InputRequired("Give the post a title."), visible, length(1, TITLE_MAX)],
        description=f"At most {TITLE_MAX} characters.",
        render_kw={"dir": "auto"},
    )
    body = TextField(
        "Text",
        [InputRequired("Write something."), visible, length(1, POST_MAX)],
        description=f"In Markdown, at most {POST_MAX:,} characters.",
        render_kw={"dir": "auto", "rows": 16},
    )


class CommentForm(Form):
    """The text of a comment."""

    body = TextField(
        "Your comment",
        [InputRequired("Write something."), visible, length(1, COMMENT_MAX)],
        description=f"In Markdown, at most {COMMENT_MAX:,} characters.",
        render_kw={"dir": "auto", "rows": 5},
    )
