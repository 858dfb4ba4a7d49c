"""Pictures in posts."""

import io
import re
import struct
import zlib

import pytest
import sqlalchemy as sa
from PIL import Image, ImageCms
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from core.database import db
from extras import pictures
from forms import POST_MAX
from models import Post

FIELDS = {"title": "My title", "body": "My text", "tags": "a, b", "publish_at": "2031-12-24T18:30"}


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def flat_png(width, height):
    """The bytes of a PNG file of that size in pixels, most of whose pixels are missing."""

    def chunk(kind, content):
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


SMALL = encoded(Image.new("RGB", (30, 20), "red"))


def send(person, path, contents, **fields):
    """Send a form with a file."""
    file = FileStorage(io.BytesIO(contents), "a.png")
    fields = {"csrf_token": person.token()} | fields | {"picture": file}
    boundary, body = encode_multipart(fields)
    kind = f'multipart/form-data; boundary="{boundary}"'
    return person.client.post(path, data=body, content_type=kind)


def add(person, contents=SMALL, path="/posts/new", **fields):
    """Send the post's form with a picture."""
    fields = FIELDS | {"action": "picture", "description": "A dog"} | fields
    return send(person, path, contents, **fields)


def address(answer):
    """The picture's path in the text of the form."""
    return re.search(r"\]\((/pictures/[^)]+)\)", answer.text)[1]


def as_shown(person, path):
    return Image.open(io.BytesIO(person.get(path).data))


def test_a_picture_is_added_to_the_text_and_nothing_else_changes(ann, nobody):
    answer = add(ann, description="A [dog] \\ cat")
    assert answer.status_code == 200
    assert "My text\n\n![A \\[dog\\] \\\\ cat](/pictures/" in answer.text
    assert 'value="My title"' in answer.text
    assert 'value="a, b"' in answer.text
    assert 'value="2031-12-24T18:30"' in answer.text
    assert "My title" not in ann.get("/drafts").text
    picture = nobody.get(address(answer))
    assert picture.mimetype == "image/webp"
    assert picture.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert picture.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in picture.headers
    post = nobody.get(ann.write("T", f"![A dog]({address(answer)})")).text
    tag = re.search("<img [^>]+>", post)[0]
    assert f'src="{address(answer)}"' in tag
    assert 'width="30" height="20"' in tag
    assert 'alt="A dog"' in tag
    assert 'loading="lazy"' in tag


def test_a_picture_needs_neither_title_nor_text_yet(ann):
    answer = add(ann, title="", body="", description="")
    assert answer.status_code == 200
    assert ">\n![](/pictures/" in answer.text.replace("\r", "")


def test_a_picture_that_is_sent_with_the_whole_post_is_in_it(ann, nobody):
    answer = add(ann, action="publish", publish_at="")
    assert answer.status_code == 303
    post = nobody.get(answer.location).text
    assert "My text" in post
    assert 'alt="A dog"' in post
    assert "The picture is at the end of the text." in ann.get(answer.location).text


def test_a_preview_shows_the_picture_that_is_sent_with_it(ann):
    answer = add(ann, action="preview")
    assert answer.status_code == 200
    assert f'src="{address(answer)}"' in answer.text


def test_nothing_is_published_without_the_picture_that_was_meant(ann, nobody):
    answer = add(ann, b"no picture", action="publish")
    assert answer.status_code == 422
    assert "This is no picture" in answer.text
    assert "My text" in answer.text
    assert "My title" not in nobody.get("/").text


def test_a_picture_is_added_while_a_post_is_edited(ann):
    post = ann.write()
    page = ann.get("/posts/1/edit").text
    version = re.search(r'name="version"[^>]* value="(\w+)"', page)[1]
    answer = add(ann, path="/posts/1/edit", version=version)
    assert f'value="{version}"' in answer.text
    assert "My text" not in ann.get(post).text
    body = f"![A dog]({address(answer)})"
    saved = ann.send("/posts/1/edit", title="A title", body=body, version=version)
    assert saved.status_code == 303


@pytest.mark.parametrize(
    ("picture", "kind", "size"),
    [
        (Image.new("RGB", (4000, 1000)), "JPEG", (2000, 500)),
        (Image.new("RGBA", (50, 60), (255, 0, 0, 100)), "PNG", (50, 60)),
        (Image.new("P", (50, 60)), "GIF", (50, 60)),
        (Image.new("RGB", (50, 60)), "WEBP", (50, 60)),
        (Image.new("CMYK", (50, 60)), "JPEG", (50, 60)),
        (Image.new("1", (50, 60)), "PNG", (50, 60)),
        (Image.new("RGB", (9000, 1)), "PNG", (2000, 1)),
    ],
    ids=lambda value: getattr(value, "mode", value),
)
def test_what_is_taken_becomes_webp(ann, picture, kind, size):
    shown = as_shown(ann, address(add(ann, encoded(picture, kind))))
    assert shown.format == "WEBP"
    assert shown.size == size
    assert shown.has_transparency_data == (picture.mode == "RGBA")


def test_a_moving_picture_becomes_its_first(ann):
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    shown = as_shown(ann, address(add(ann, moving)))
    assert getattr(shown, "n_frames", 1) == 1
    assert shown.convert("RGB").getpixel((4, 4))[0] > 200


def test_grey_of_sixteen_bits_stays_grey(ann):
    shown = as_shown(ann, address(add(ann, encoded(Image.new("I;16", (9, 9), 32768)))))
    assert abs(shown.convert("L").getpixel((4, 4)) - 128) < 3


def test_a_picture_stands_upright_and_tells_nothing_of_its_camera(ann):
    notes = Image.Exif()
    notes[0x0112] = 6  # lies on its side
    notes[0x010F] = "Camera & Sons"
    photo = encoded(Image.new("RGB", (40, 20)), "JPEG", exif=notes, comment=b"At home")
    assert b"Camera & Sons" in photo
    path = address(add(ann, photo))
    assert as_shown(ann, path).size == (20, 40)
    assert not re.search(b"Camera|At home|EXIF", ann.get(path).data)


def test_damaged_notes_do_not_spoil_a_whole_picture(ann):
    photo = encoded(Image.new("RGB", (9, 9)), "JPEG", exif=b"Exif\0\0garbage!!", dpi=(72, 72))
    assert as_shown(ann, address(add(ann, photo))).size == (9, 9)


def test_a_picture_stands_upright_with_notes_that_cannot_be_written_again(ann):
    entries = struct.pack("<HHLHHHHLL", 0x0112, 3, 1, 6, 0, 0x011A, 2, 4, 0x636261)
    notes = b"Exif\0\0II" + struct.pack("<HLH", 42, 8, 2) + entries + b"\0" * 4
    photo = encoded(Image.new("RGB", (40, 20)), "JPEG", exif=notes)
    assert as_shown(ann, address(add(ann, photo))).size == (20, 40)


def test_only_a_jpeg_has_layers_to_count(ann):
    png = encoded(Image.new("RGB", (9, 9))) + b"\xff\xda" * 101
    assert as_shown(ann, address(add(ann, png))).size == (9, 9)


def test_a_profile_of_colours_is_applied_not_kept(ann):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for sent in (profile, b"My secret" * 1000):
        path = address(add(ann, encoded(Image.new("RGB", (9, 9), "red"), "JPEG", icc_profile=sent)))
        assert "icc_profile" not in as_shown(ann, path).info
        assert b"My secret" not in ann.get(path).data


def test_words_before_a_picture_stay_as_they_are(ann):
    answer = add(ann, body="    code\n    more code")
    assert ">\n    code\n    more code\n\n![" in answer.text.replace("\r", "")


def test_a_post_that_is_deleted_meanwhile_is_not_found_and_the_text_kept(app, ann, monkeypatch):
    ann.write()

    def slowly(_file):
        with app.app_context():
            db.session.execute(sa.delete(Post))
            db.session.commit()
        return b"RIFF", (1, 1)

    monkeypatch.setattr(pictures, "to_webp", slowly)
    answer = add(ann, path="/posts/1/edit")
    assert answer.status_code == 404
    assert "My text" in answer.text


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "none was chosen"),
        (b"Hello, I am a text. " * 9, "This is no picture in PNG, JPEG, WebP or GIF."),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "This is no picture"),
        (encoded(Image.new("RGB", (9, 9)), "TIFF"), "This is no picture"),
        (flat_png(20_000, 20_000), "more than 40 million pixels"),
        (flat_png(10_000, 9_000), "more than 40 million pixels"),
        (flat_png(6_400, 6_300), "more than 40 million pixels"),
        (flat_png(1_000, 1_000), "This picture is damaged"),
        (encoded(Image.effect_noise((99, 99), 50))[:2000], "This picture is damaged"),
        (SMALL + b"\0" * pictures.BYTES_MAX, "larger than 8 MiB"),
        (encoded(Image.new("RGB", (9, 9)), "JPEG") + b"\xff\xda" * 101, "too many layers"),
    ],
    ids=range(11),
)
def test_what_is_refused_says_why_and_nothing_typed_is_lost(ann, contents, message):
    answer = add(ann, contents)
    assert answer.status_code == 422
    assert message in answer.text
    assert "My text" in answer.text
    assert 'value="A dog"' in answer.text
    assert 'value="2031-12-24T18:30"' in answer.text


def test_without_a_file_the_form_says_so(ann):
    answer = ann.send("/posts/new", action="picture", **FIELDS)
    assert answer.status_code == 422
    assert "none was chosen" in answer.text


def test_a_picture_needs_a_valid_token(ann):
    answer = add(ann, csrf_token="stale")
    assert answer.status_code == 400
    assert "My text" in answer.text


def test_only_the_post_form_takes_large_bodies(ann):
    assert send(ann, "/login", b"\0" * 2_000_000, username="x").status_code == 413
    assert send(ann, "/posts/new", b"\0" * 17_000_000, **FIELDS).status_code == 413
    assert send(ann, "/posts/new", SMALL, title="x", body="y" * 1_100_000).status_code == 413
    assert ann.send("/posts/new", title="x", body="y" * 1_100_000).status_code == 413


def test_a_text_that_a_picture_makes_too_long_says_so_when_saved(ann):
    answer = add(ann, body="x" * POST_MAX)
    assert answer.status_code == 200
    body = "x" * POST_MAX + f"![]({address(answer)})"
    assert ann.send("/posts/new", title="x", body=body).status_code == 422


def test_the_same_picture_is_kept_once_for_each_author(ann, bob):
    assert address(add(ann)) == address(add(ann))
    assert address(add(ann)) != address(add(bob))


def test_unused_pictures_are_listed_and_removed(ann, bob, nobody):
    used, unused = address(add(ann)), address(add(ann, encoded(Image.new("RGB", (5, 5)))))
    bobs = address(add(bob))
    post = ann.write("T", f"See http://localhost{used}.")
    account = ann.get("/account").text
    assert unused in account
    assert used not in account
    assert bobs not in account
    for path in (used, bobs, unused, "/pictures/x"):
        name = path.rpartition("/")[2]
        assert ann.send("/account/pictures", picture=name).status_code == 303
    assert nobody.get(used).status_code == 200
    assert nobody.get(bobs).status_code == 200
    assert nobody.get(unused).status_code == 404
    ann.send(f"/posts/{post.split('/')[2]}/delete")
    assert used in ann.get("/account").text
    assert ann.send("/account/pictures", picture=name, csrf_token="x").status_code == 400


def test_a_draft_and_others_posts_keep_a_picture(ann, owner):
    path, other = address(add(ann)), address(add(ann, encoded(Image.new("RGB", (5, 5)))))
    ann.send("/posts/new", title="x", body=f"![]({path})", action="draft")
    owner.write("T", f"![]({other})")
    assert path not in ann.get("/account").text
    assert other not in ann.get("/account").text
