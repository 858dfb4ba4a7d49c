"""Pictures: added in the form of a post, made small and free of what their cameras add."""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from threading import BoundedSemaphore
from typing import IO, TYPE_CHECKING

import sqlalchemy as sa
from flask import Blueprint, Response, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from sqlalchemy.orm import Mapped, mapped_column
from wtforms import fields

from core.database import Base, atomic, db, now
from core.plugins import Blog, post_form_sent
from core.security import IMMUTABLE, limited
from forms import Length, LineField, PostForm, PostFormPart
from models import Post, User

if TYPE_CHECKING:
    from PIL import Image

DESCRIPTION_MAX = 200  # characters; what a screen reader says of a picture
UPLOAD_MAX = 16 * 1024 * 1024  # bytes of a form; a picture that is too large is refused in it
FORMATS = ["PNG", "JPEG", "WEBP", "GIF"]  # by their contents, whatever the file is called
BYTES_MAX = 8 * 1024 * 1024
PIXELS_MAX = 40_000_000  # up to 700 MB in memory; the pictures of phones have 12 to 24 million
SIDE_MAX = 2000  # pixels of what is stored; twice the text's width on the sharpest screens
JPEG, JPEG_SCAN = b"\xff\xd8", b"\xff\xda"  # how such a file begins, and each of its layers
SCANS_MAX = 100  # cameras write ten; each may take as long as a picture
QUALITY = 80  # of WebP, where eyes see no loss
PATH = r"/pictures/([0-9a-f]+-\d+x\d+\.webp)"  # in a text; the group is the picture's name
HAS_PICTURE = sa.text("body LIKE '%/pictures/%'")  # of the index, which a query has to repeat

pages = Blueprint("pictures", __name__)
shrinking = BoundedSemaphore(1)  # one at a time may take 3 s and 700 MB
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
    url = url_for("pictures.show", name=picture.name)
    with suppress(sa.exc.IntegrityError), atomic():  # the same one is added at this moment
        db.session.merge(picture)
    description = re.sub(r"([\\\[\]])", r"\\\1", part["description"].data)
    before = f"{form.body.data}\n\n" if form.body.data else ""
    form.body.data = f"{before}![{description}]({url})\n"
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


# The conversion -----------------------------------------------------------------------------------


def to_webp(file: IO[bytes]) -> tuple[bytes, tuple[int, int]]:
    """The picture in WebP, upright, without its metadata, and its width and height in pixels.

    Of a moving picture, the first. ValueError, with a sentence, for what is no picture or too big.
    """
    from PIL import Image  # it takes a tenth of the blog's start, and few requests need it

    Image.MAX_IMAGE_PIXELS = None  # our own limit is lower, and comes with a sentence
    sent = file.read(BYTES_MAX + 1)
    if not sent:
        raise ValueError("This file is empty, or none was chosen.")
    if len(sent) > BYTES_MAX:
        raise ValueError("This file is larger than 8 MiB. Make the picture smaller first.")
    try:
        picture = Image.open(BytesIO(sent), formats=FORMATS)
    except Exception as error:  # decoders raise whatever a hostile file makes them stumble over
        raise ValueError("This is no picture in PNG, JPEG, WebP or GIF.") from error
    if picture.width * picture.height > PIXELS_MAX:
        raise ValueError("This picture has more than 40 million pixels. Make it smaller first.")
    if sent.startswith(JPEG) and sent.count(JPEG_SCAN) > SCANS_MAX:
        raise ValueError("This picture is made of too many layers. Save it anew first.")
    try:
        return _encode(picture)
    except Exception as error:  # as above
        raise ValueError("This picture is damaged; no program could show it whole.") from error


def _encode(picture: "Image.Image") -> tuple[bytes, tuple[int, int]]:
    from PIL import ImageCms, ImageOps

    mode = "RGBA" if picture.has_transparency_data else "RGB"
    if picture.mode == "I;16":
        picture = picture.point(lambda grey: grey * (1 / 256), "L")
    if picture.mode in ("1", "P"):
        picture = picture.convert(mode)  # between the colours of a palette there are none
    picture.thumbnail((SIDE_MAX, SIDE_MAX))
    with suppress(Exception):  # damaged notes; the picture is turned before they are written
        ImageOps.exif_transpose(picture, in_place=True)
    with suppress(KeyError, OSError, ImageCms.PyCMSError):  # no profile, or one that does not fit
        profile = ImageCms.ImageCmsProfile(BytesIO(picture.info["icc_profile"]))
        srgb = ImageCms.createProfile("sRGB")
        picture = ImageCms.profileToProfile(picture, profile, srgb, outputMode=mode) or picture
    file = BytesIO()
    picture.convert(mode).save(file, "WEBP", quality=QUALITY, icc_profile=None, exif=b"", xmp=b"")
    return file.getvalue(), picture.size
