"""Pictures in posts."""

import io
import re
import struct
import subprocess
import sys
import zlib

import pytest
import sqlalchemy as sa
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from core import images
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


def with_size(contents, size, new_size, form=">II"):
    """The bytes of a file whose header says that it has another size in pixels."""
    before, after = struct.pack(form, *size), struct.pack(form, *new_size)
    assert before in contents
    return contents.replace(before, after)


def brand(*brands):
    """The beginning of a file of HEIF, AVIF, MP4 or QuickTime."""
    content = brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    return struct.pack(">I", 8 + len(content)) + b"ftyp" + content + b"\0\0\0\x08mdat"


def lying(**options):
    notes = Image.Exif()
    notes[0x0112] = 6
    return {"exif": notes} | options


def layered(count):
    """The bytes of a JPEG that is made of so many layers."""
    jpeg = encoded(Image.new("RGB", (9, 9)), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last * (count - jpeg.count(b"\xff\xda")) + jpeg[-2:]


# Prints a stored picture's width and height, the MB of memory and the seconds that it took.
MEASURE = """
import re, sys, time
from pathlib import Path
from core.images import to_webp

def memory(kind):
    return int(re.search(kind + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

small, large = (open(path, "rb") for path in sys.argv[1:])
to_webp(small)
Path("/proc/self/clear_refs").write_text("5")  # the peak is forgotten
memory_before, seconds_before = memory("VmRSS"), time.process_time()
size = to_webp(large)[1]
print(*size, (memory("VmHWM") - memory_before) / 1e6, time.process_time() - seconds_before)
"""
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
        (Image.new("RGB", (3000, 2000)), "JPEG", (2000, 1333)),
        (Image.new("RGB", (12_000, 1080)), "JPEG", (2000, 180)),
        (Image.new("L", (1080, 12_000)), "PNG", (1080, 12_000)),
        (Image.new("L", (100, 30_000)), "PNG", (55, 16_383)),
        (Image.new("LA", (2100, 10)), "PNG", (2000, 10)),
        (Image.new("RGBA", (2100, 10), (255, 0, 0, 100)), "PNG", (2000, 10)),
        (Image.new("RGB", (50, 60)), "AVIF", (50, 60)),
        (Image.new("RGBA", (50, 60), (255, 0, 0, 100)), "AVIF", (50, 60)),
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
    assert shown.has_transparency_data == (picture.mode in ("LA", "RGBA"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "AVIF", "PNG", "MPO"])
def test_a_moving_picture_becomes_its_first(ann, kind):
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    moving = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_picture_of_any_kind_stands_upright_and_is_no_wider_than_others(ann, kind):
    picture = Image.new("RGB", (1100, 2200), "blue")
    picture.paste("red", (0, 0, 1100, 1100))
    shown = as_shown(ann, address(add(ann, encoded(picture, kind, **lying()))))
    assert shown.size == (2000, 1000)
    assert shown.convert("RGB").getpixel((1900, 500))[0] > 200  # its upper half is at the right


@pytest.mark.parametrize("options", [{}, lying()], ids=["landscape", "portrait"])
def test_a_large_jpeg_is_decoded_at_no_less_than_the_width_that_is_stored(ann, options):
    photo = encoded(Image.new("L", (4200, 4201)), "JPEG", **options)
    assert as_shown(ann, address(add(ann, photo))).width == 2000


def test_a_photograph_with_a_film_behind_it_is_taken(ann):
    photo = encoded(Image.new("RGB", (9, 9)), "JPEG") + b"\xff\xda" * 101
    assert as_shown(ann, address(add(ann, photo))).size == (9, 9)


def test_a_picture_with_many_layers_is_taken(ann):
    assert as_shown(ann, address(add(ann, layered(images.SCANS_MAX)))).size == (9, 9)


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
        (b"Hello, I am a text. " * 9, "This is no picture in PNG, JPEG, WebP, AVIF or GIF."),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "This is an SVG drawing. Save it as PNG,"),
        (b"<?xml version='1.0'?>\n<!-- A -->\n<svg/>", "This is an SVG drawing."),
        (encoded(Image.new("RGB", (9, 9)), "TIFF"), "This is a TIFF or a camera"),
        (encoded(Image.new("RGB", (9, 9)), "BMP"), "This is a BMP picture."),
        (encoded(Image.new("RGB", (9, 9)), "PDF"), "This is a PDF document."),
        (
            brand(b"heic", b"mif1", b"heic"),
            "This is a HEIC picture, which most browsers cannot show.",
        ),
        (brand(b"mif1", b"mif1", b"heix"), "This is a HEIC picture"),
        (brand(b"hevc", b"msf1"), "This is a HEIC picture"),
        (brand(b"isom", b"iso2", b"avc1", b"mp41"), "This is a video."),
        (brand(b"qt  "), "This is a video."),
        (b"\x1aE\xdf\xa3" + b"\0" * 99, "This is a video."),
        (brand(b"avif", b"avif", b"mif1"), "This picture is damaged"),
        (
            flat_png(20_000, 20_000),
            "20000 by 20000 pixels; the blog takes at most 25 million in PNG.",
        ),
        (flat_png(5_001, 5_000), "in PNG. Make it smaller, or save it as plain JPEG, first."),
        (flat_png(1_000, 1_000), "This picture is damaged"),
        (encoded(Image.effect_noise((99, 99), 50))[:2000], "This picture is damaged"),
        (encoded(Image.effect_noise((99, 99), 50), "JPEG")[:2000], "This picture is damaged"),
        (encoded(Image.effect_noise((99, 99), 50), "AVIF")[:2000], "This picture is damaged"),
        (SMALL[:20], "This picture is damaged"),
        (
            with_size(encoded(Image.new("L", (30, 20)), "GIF"), (30, 20), (6000, 6000), "<HH"),
            "at most 25 million in GIF.",
        ),
        (
            with_size(encoded(Image.new("L", (301, 201)), "WEBP"), (301, 201), (9999, 9999), "<HH"),
            "at most 12.5 million in WebP.",
        ),
        (
            with_size(encoded(Image.new("L", (301, 201)), "AVIF"), (301, 201), (5000, 5000)),
            "at most 12.5 million in AVIF.",
        ),
        (
            with_size(encoded(Image.new("L", (30, 20)), "JPEG"), (20, 30), (20_000, 20_000), ">HH"),
            "at most 110 million in JPEG. Make it smaller first.",
        ),
        (
            with_size(
                encoded(Image.new("RGB", (30, 20)), "JPEG", progressive=True, subsampling=0),
                *((20, 30), (6144, 8160), ">HH"),
            ),
            "at most 31.1 million in progressive JPEG.",
        ),
        (SMALL + b"\0" * images.BYTES_MAX, "larger than 24 MiB"),
        (layered(images.SCANS_MAX + 1), "too many layers"),
        (b"\xff\xd8" + b"\xff\xfe\0\2" * 9999, "too many layers"),
        (b"\xff\xd8" + b"\xff" * 20_000_000, "This picture is damaged"),
        (b"\xff\xd8" + b"\xff\0" * 10_000_000, "This picture is damaged"),
        (SMALL[:33] + b"\0\0\0\0abCd\0\0\0\0" * 60_000 + SMALL[33:], "too many parts"),
        (b"GIF89a\1\0\1\0\x80\0\0" + b"\0" * 6 + b"!\xfe" + b"\1x" * 60_000, "too many parts"),
    ],
    ids=range(33),
)
def test_what_is_refused_says_why_and_nothing_typed_is_lost(ann, contents, message):
    answer = add(ann, contents)
    assert answer.status_code == 422
    assert message in answer.text
    assert "My text" in answer.text
    assert 'value="A dog"' in answer.text
    assert 'value="2031-12-24T18:30"' in answer.text


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
@pytest.mark.parametrize(
    ("mode", "size", "kind", "options", "stored"),
    [
        ("RGB", (8160, 6144), "JPEG", {"quality": 95}, (2000, 1506)),
        ("RGB", (8160, 6144), "JPEG", lying(), (2000, 2656)),
        ("RGB", (8160, 6144), "JPEG", {"progressive": True}, (2000, 1506)),
        ("CMYK", (8160, 6144), "JPEG", {}, (2000, 1506)),
        ("RGB", (3990, 7100), "JPEG", {}, (2000, 3559)),
        ("RGB", (2600, 10_900), "JPEG", {}, (1761, 7382)),
        ("RGB", (12_000, 9000), "JPEG", {}, (2000, 1500)),
        ("RGB", (2000, 12_500), "PNG", {}, (1442, 9014)),
        ("RGBA", (2000, 12_500), "PNG", {}, (1442, 9014)),
        ("LA", (6000, 4000), "PNG", {}, (2000, 1333)),
        ("P", (6000, 4000), "PNG", {"transparency": 3}, (2000, 1333)),
        ("P", (6000, 4000), "GIF", {"transparency": 3}, (2000, 1333)),
        ("RGBA", (4032, 3024), "WEBP", {"lossless": True, "method": 0}, (2000, 1500)),
        ("RGBA", (4032, 3024), "AVIF", {"subsampling": "4:4:4", "speed": 10}, (2000, 1500)),
    ],
)
def test_a_large_picture_takes_at_most_250_mb_and_5_s(tmp_path, mode, size, kind, options, stored):
    noise = Image.effect_noise((size[0] // 8, size[1] // 8), 50).resize(size)
    noise.convert("RGBA").convert(mode).save(tmp_path / "large", kind, **options)
    noise.resize((9, 9)).save(tmp_path / "small", kind)
    command = [sys.executable, "-c", MEASURE, tmp_path / "small", tmp_path / "large"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    width, height, megabytes, seconds = result.stdout.split()
    assert (int(width), int(height)) == stored
    assert float(megabytes) < 250
    assert float(seconds) < 5


def test_texts_in_a_png_that_grow_when_unpacked_are_refused(ann):
    texts = PngInfo()
    for number in range(10):
        texts.add_text(f"Text {number}", "x" * 1_000_000, zip=True)
    answer = add(ann, encoded(Image.new("RGB", (9, 9)), pnginfo=texts))
    assert answer.status_code == 422
    assert "This picture is damaged" in answer.text


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
    assert send(ann, "/posts/new", b"\0" * 34_000_000, **FIELDS).status_code == 413
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
