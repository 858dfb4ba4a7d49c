"""Pictures: what people send, made small and free of what their cameras add."""

from contextlib import suppress
from io import BytesIO
from typing import IO

from PIL import Image, ImageCms, ImageOps

FORMATS = ["PNG", "JPEG", "WEBP", "GIF"]  # by their contents, whatever the file is called
BYTES_MAX = 8 * 1024 * 1024
PIXELS_MAX = 40_000_000  # up to 700 MB in memory; the pictures of phones have 12 to 24 million
SIDE_MAX = 2000  # pixels of what is kept; twice the text's width on the sharpest screens
JPEG, JPEG_SCAN = b"\xff\xd8", b"\xff\xda"  # how such a file begins, and each of its layers
SCANS_MAX = 100  # cameras write ten; each may take as long as a picture
QUALITY = 80  # of WebP, where eyes see no loss
Image.MAX_IMAGE_PIXELS = None  # our own limit is lower, and comes with a sentence


def to_webp(file: IO[bytes]) -> tuple[bytes, tuple[int, int]]:
    """The picture in WebP, upright, without its metadata, and its width and height in pixels.

    Of a moving picture, the first. ValueError, with a sentence, for what is no picture or too big.
    """
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


def _encode(picture: Image.Image) -> tuple[bytes, tuple[int, int]]:
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
