"""Pictures: what people send, made small and free of what their cameras add."""

from io import BytesIO
from typing import IO

from PIL import Image, ImageOps

FORMATS = ["PNG", "JPEG", "WEBP", "GIF"]  # by their contents, whatever the file is called
BYTES_MAX = 8 * 1024 * 1024
PIXELS_MAX = 40_000_000  # 160 MB in memory; the pictures of phones have 12 to 24 million
SIDE_MAX = 2000  # pixels of what is kept; twice the text's width on the sharpest screens
QUALITY = 80  # of WebP, where eyes see no loss


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
        is_huge = picture.width * picture.height > PIXELS_MAX
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        is_huge = True
    except OSError as error:
        raise ValueError("This is no picture in PNG, JPEG, WebP or GIF.") from error
    if is_huge:
        raise ValueError("This picture has more than 40 million pixels. Make it smaller first.")
    try:
        return _encode(picture)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError("This picture is damaged; no program could show it whole.") from error


def _encode(picture: Image.Image) -> tuple[bytes, tuple[int, int]]:
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    profile = picture.info.get("icc_profile") if picture.mode in ("RGB", "RGBA") else None
    if picture.mode == "I;16":
        picture = picture.point(lambda grey: grey * (1 / 256), "L")
    if picture.mode in ("1", "P"):
        picture = picture.convert(mode)  # between the colours of a palette there are none
    picture.thumbnail((SIDE_MAX, SIDE_MAX))
    ImageOps.exif_transpose(picture, in_place=True)
    file = BytesIO()
    picture.convert(mode).save(file, "WEBP", quality=QUALITY, icc_profile=profile)
    return file.getvalue(), picture.size
