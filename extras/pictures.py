"""Pictures: added in the form of a post, made small and free of what their cameras add."""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from threading import BoundedSemaphore
from urllib.parse import quote

import sqlalchemy as sa
from flask import Blueprint, Response, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from sqlalchemy.orm import Mapped, mapped_column
from wtforms import fields

from core.database import Base, atomic, db, now
from core.images import to_webp
from core.plugins import Blog, post_form_sent
from core.security import IMMUTABLE, limited
from forms import Length, LineField, PostForm, PostFormPart
from models import Post, User

DESCRIPTION_MAX = 200  # characters; what a screen reader says of a picture
UPLOAD_MAX = 32 * 1024 * 1024  # bytes of a form; a file that is a bit too large is refused in it
PATH = r"/pictures/([0-9a-f]+-\d+x\d+\.webp)"  # in a text; the group is the picture's name
HAS_PICTURE = sa.text("body LIKE '%/pictures/%'")  # of the index, which a query has to repeat

pages = Blueprint("pictures", __name__)
shrinking = BoundedSemaphore(1)  # one at a time may take 5 s and 250 MB
sa.Index("ix_posts_pictures", Post.id, sqlite_where=HAS_PICTURE, postgresql_where=HAS_PICTURE)


class Picture(Base):
    """A picture in WebP. Its name is made of its author and contents, and of its size in pixels."""

    __tablename__ = "pictures"
    name: Mapped[str] = mapped_column(primary_key=True)  # <hash>-<width>x<height>.webp
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    webp: Mapped[bytes] = mapped_column(deferred=True)

    @classmethod
    def of(cls, author_id: int, webp: bytes, size: tuple[int, int]) -> "Picture":
        """The author's picture of that size in pixels, with its name; not yet saved."""
        salt = author_id.to_bytes(8, "big")
        digest = hashlib.blake2b(webp, digest_size=16, salt=salt).hexdigest()
        name = f"{digest}-{size[0]}x{size[1]}.webp"
        return cls(name=name, author_id=author_id, webp=webp)

    @classmethod
    def unused_by(cls, user: User) -> Sequence["Picture"]:
        """The user's pictures that no post shows, oldest first."""
        texts = db.session.scalars(sa.select(Post.body).where(HAS_PICTURE))
        used = {name for text in texts for name in re.findall(PATH, text)}
        own = sa.select(cls).where(cls.author_id == user.id).order_by(cls.created_at)
        return [picture for picture in db.session.scalars(own) if picture.name not in used]


def markdown_image(description: str, url: str) -> str:
    """A picture in Markdown, whatever characters its description and its URL have."""
    description = re.sub(r"([\\\[\]])", r"\\\1", " ".join(description.split()))
    return f"![{description}]({quote(url, safe=':/?#[]@!$&*+,;=%~')})"


class PicturePart(PostFormPart):
    """The fields that add a picture to the text of a post."""

    picture = fields.FileField("Picture")  # the file itself is in `request.files`
    description = LineField("What it shows", [Length(0, DESCRIPTION_MAX)])


# The pages ----------------------------------------------------------------------------------------


def init_app(app: Blog) -> None:
    """Plug in."""
    app.post_form_parts["picture"] = PicturePart
    app.multipart_max |= {"posts.new": UPLOAD_MAX, "posts.edit": UPLOAD_MAX}
    app.slots["post_form_end"].append("pictures/fieldset.html")
    app.slots["account"].append("pictures/unused.html")
    post_form_sent.connect(add_picture, app)
    app.add_template_global(Picture.unused_by, "unused_pictures")
    app.register_blueprint(pages)
    if "account" in app.extras:
        app.add_url_rule("/account/pictures", "pictures.delete", delete_picture, methods=["POST"])


def add_picture(_sender: object, form: PostForm) -> None:
    """Save the picture that was sent with the form, and add it to the end of its text."""
    part, file = form.parts["picture"], request.files.get("picture")
    is_sent = file or request.form.get("action") == "picture"
    if not is_sent or not form.csrf_token.validate(form) or not part.validate():
        return
    try:
        with limited(shrinking):
            webp, size = to_webp(file.stream if file else BytesIO())
    except ValueError as error:
        part["picture"].errors = [str(error)]
        return
    picture = Picture.of(current_user.id, webp, size)
    with suppress(sa.exc.IntegrityError), atomic():  # the same one is added at this moment
        db.session.merge(picture)
    before = f"{form.body.data}\n\n" if form.body.data else ""
    # The path without that of the blog, which `rendering.markdown` adds: blogs move.
    image = markdown_image(part["description"].data, f"/pictures/{picture.name}")
    form.body.data = f"{before}{image}\n"
    part["description"].data = ""
    flash("The picture is at the end of the text.")


@pages.get("/pictures/<name>", endpoint="show")
def show_picture(name: str) -> ResponseReturnValue:
    """A picture of a post. Whoever knows its name may see it, which nobody guesses."""
    query = sa.select(Picture.webp).join(User).where(User.banned_at.is_(None))
    webp = db.first_or_404(query.where(Picture.name == name))
    return Response(webp, mimetype="image/webp", headers={"Cache-Control": IMMUTABLE})


@login_required
def delete_picture() -> ResponseReturnValue:
    """Delete a picture of one's own that no post shows."""
    with atomic():
        for picture in Picture.unused_by(current_user):
            if picture.name == request.form.get("picture"):
                db.session.delete(picture)
    return redirect(url_for("account.show", _anchor="pictures"), 303)
