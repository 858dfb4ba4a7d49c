"""Picture files of any kind to WebP: upright, small, and free of what cameras add."""

import re
from contextlib import suppress
from io import BytesIO
from math import sqrt
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile

BYTES_MAX = 24 * 1024 * 1024  # of a file; a JPEG of 50 million pixels has 8 to 24 MB
# The most pixels in each format, so that none takes more than 250 MB of memory. PNG and GIF take up
# to 8 bytes for a pixel, WebP and AVIF 16, for their decoders hold a picture more than once. A JPEG
# is decoded at about the size that is stored. A file's contents tell its format, not its name.
PIXELS_MAX = {
    "PNG": 25_000_000,
    "JPEG": 110_000_000,
    "WebP": 12_500_000,
    "AVIF": 12_500_000,
    "GIF": 25_000_000,
}
JPEG_MEMORY_MAX = 200_000_000  # bytes; for a progressive one of 50 million pixels it is 160 MB
SCANS_MAX = 40  # layers of a JPEG; cameras write ten; each of a large one may take 0.1 s
SEGMENTS_MAX = 2000  # of a JPEG, with its notes and tables; a profile of colours may take hundreds
PADDING_MAX = 65_536  # bytes before the first layer of a JPEG; Pillow takes long to skip them
PARTS_MAX = 50_000  # of a PNG, or of a GIF up to its first picture; a usual one has thousands
PNG_TEXT_MAX = 8 * 1024 * 1024  # bytes of all texts in a PNG, unpacked; they may take four times it
WIDTH_MAX = 2000  # pixels of what is stored; twice the text's width on the sharpest screens
HEIGHT_MAX = 16_383  # pixels; the most that WebP can hold
AREA_MAX = 13_000_000  # pixels of what is stored: 1080 by 12000, five screens, in 1 to 3 MB
# Markers of a JPEG (ITU T.81 §B.1.1.3): all but those that stand within a layer, and two of them.
MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
GIF, PNG = b"GIF8", b"\x89PNG"
JPEG, END, SCAN = b"\xff\xd8", b"\xd9", b"\xda"
REDUCING_GAP = 2.0  # a picture is averaged down to twice its new size first, which is fast
QUALITY = 80  # of WebP, where eyes see no loss
FORMATS = {name.upper(): name for name in PIXELS_MAX}  # as Pillow calls them
TAKEN = "PNG, JPEG, WebP, AVIF or GIF"
DAMAGED = "This picture is damaged; no program could show it whole."
SAVE_AS = f"Save it as {TAKEN} first."
# The sentence for files that are not taken, by what they begin with.
FILE_KINDS = {
    rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF.{4}WEBP|.{4}ftypavi": DAMAGED,
    rb".{4}ftyp(.{4}){0,8}?(hei|hev|mi[af]|msf)": (
        "This is a HEIC picture, which most browsers cannot show. Save or export it as JPEG first. "
        "(An iPhone makes JPEGs when its camera's format is set to “Most Compatible”.)"
    ),
    rb".{4}(ftyp|moov|mdat|wide)|\x1aE\xdf\xa3|RIFF.{4}AVI ": (
        f"This is a video. The blog takes only pictures, in {TAKEN}."
    ),
    rb"II\*\0|MM\0\*": f"This is a TIFF or a camera's raw picture. {SAVE_AS}",
    rb"BM.{4}\0{4}": f"This is a BMP picture. {SAVE_AS}",
    rb"\xff\x0a|.{4}JXL ": f"This is a JPEG XL picture. {SAVE_AS}",
    rb"8BPS": f"This is a Photoshop file. {SAVE_AS}",
    rb"%PDF-": f"This is a PDF document. {SAVE_AS}",
    rb"(\xef\xbb\xbf)?\s*(<[?!].{0,1000}?)?<svg": f"This is an SVG drawing. {SAVE_AS}",
}
ORIENTATION, LYING = 0x0112, (5, 6, 7, 8)  # a field of EXIF; its values for what lies on its side


def to_webp(file: IO[bytes]) -> tuple[bytes, tuple[int, int]]:
    """The picture in WebP, upright, without its metadata, and its width and height in pixels.

    Of a moving picture, the first. ValueError, with a sentence, for what is no picture or too big.
    """
    picture = _open(file.read(BYTES_MAX + 1))
    try:
        return _encode(picture)
    except Exception as error:  # decoders raise whatever a hostile file makes them stumble over
        raise ValueError(DAMAGED) from error


def _open(sent: bytes) -> "Image.Image":
    """The picture, of which only the header is read yet; ValueError for what is not taken."""
    # To import it takes a tenth of the blog's start, and few requests need it.
    from PIL import Image, JpegImagePlugin, PngImagePlugin

    Image.MAX_IMAGE_PIXELS = None  # our own limits are lower, and come with a sentence
    PngImagePlugin.MAX_TEXT_MEMORY = PNG_TEXT_MAX
    if not sent:
        raise ValueError("This file is empty, or none was chosen.")
    if len(sent) > BYTES_MAX:
        raise ValueError("This file is larger than 24 MiB. Make the picture smaller first.")
    scans = _scans(sent) if sent.startswith(JPEG) else []
    if sent.startswith((GIF, PNG)) and _is_shredded(sent):
        raise ValueError("This picture is made of too many parts. Save it anew first.")
    try:
        picture = Image.open(BytesIO(sent), formats=list(FORMATS))
    except Exception as error:  # as above
        found = (kind for start, kind in FILE_KINDS.items() if re.match(start, sent, re.DOTALL))
        raise ValueError(next(found, f"This is no picture in {TAKEN}.")) from error
    kind = FORMATS.get(str(picture.format), "JPEG")  # MPO is JPEG with more pictures behind it
    _check_pixels(picture.size, kind, PIXELS_MAX[kind])
    if isinstance(picture, JpegImagePlugin.JpegImageFile):
        _prepare_jpeg(picture, scans)
    return picture


def _check_pixels(size: tuple[int, int], kind: str, pixels_max: float) -> None:
    width, height = size
    if width * height <= pixels_max:
        return
    remedy = "Make it smaller" if kind == "JPEG" else "Make it smaller, or save it as plain JPEG,"
    raise ValueError(
        f"This picture has {width} by {height} pixels; the blog takes at most "
        f"{pixels_max / 1_000_000:.3g} million in {kind}. {remedy} first."
    )


def _prepare_jpeg(picture: "JpegImageFile", scans: list[int]) -> None:
    """Let a JPEG be decoded at about the size that is stored; ValueError if it is too large."""
    kind, coefficients = "JPEG", 0.0  # bytes for a pixel
    if "progressive" in picture.info or scans[:1] != [picture.layers]:
        # The decoder holds such a picture whole: two bytes a sample, of which colours have fewer.
        samples = [across * down for _, across, down, _ in picture.layer]
        kind, coefficients = "progressive JPEG", 2 * sum(samples) / max(samples)
    whole = picture.size
    picture.draft(None, _stored_size(picture))
    share = picture.width * picture.height / (whole[0] * whole[1])
    # Four bytes for a pixel that is decoded, and up to three to resize it.
    _check_pixels(whole, kind, JPEG_MEMORY_MAX / (coefficients + 7 * share))


def _scans(sent: bytes) -> list[int]:
    """How many colours each layer of a JPEG has; ValueError if there are too many layers.

    What follows the end of the picture, such as a film, does not count.
    """
    scans: list[int] = []
    at = len(JPEG)
    for _ in range(SEGMENTS_MAX):
        marker = MARKER.search(sent, at)
        if not scans and (not marker or marker.start() - at > PADDING_MAX):
            raise ValueError(DAMAGED)
        if not marker or marker[1] == END:
            return scans
        at = marker.end()
        if marker[1] == SCAN:
            scans += sent[at + 2 : at + 3]
        if len(scans) > SCANS_MAX:
            break
        at += int.from_bytes(sent[at : at + 2])
    raise ValueError("This picture is made of too many layers. Save it anew first.")


def _is_shredded(sent: bytes) -> bool:
    """Whether a GIF or PNG has so many parts that a list of them is larger than a picture."""
    parts, at = 0, 8
    if sent.startswith(PNG):
        while parts <= PARTS_MAX and sent[at + 4 : at + 8] not in (b"", b"IEND"):
            parts, at = parts + 1, at + 12 + int.from_bytes(sent[at : at + 4])
        return parts > PARTS_MAX
    flags = int.from_bytes(sent[10:11])
    at = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)  # after its header and palette
    # Extensions, of blocks of up to 255 bytes, until the first picture begins.
    while parts <= PARTS_MAX and sent[at : at + 1] == b"!":
        at += 2
        while parts <= PARTS_MAX and sent[at : at + 1] not in (b"", b"\0"):
            parts, at = parts + 1, at + 1 + sent[at]
        parts, at = parts + 1, at + 1
    return parts > PARTS_MAX


def _stored_size(picture: "Image.Image") -> tuple[int, int]:
    """The width and height in pixels of what is stored, before it is turned upright."""
    is_lying = False
    with suppress(Exception):  # damaged notes
        is_lying = picture.getexif().get(ORIENTATION) in LYING
    width, height = reversed(picture.size) if is_lying else picture.size
    scale = min(1, WIDTH_MAX / width, HEIGHT_MAX / height, sqrt(AREA_MAX / (width * height)))
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    return (height, width) if is_lying else (width, height)


def _encode(picture: "Image.Image") -> tuple[bytes, tuple[int, int]]:
    from PIL import ImageCms, ImageOps

    picture.load()
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    if picture.mode == "I;16":
        picture = picture.point(lambda grey: grey * (1 / 256), "L")
    if picture.mode in ("1", "P", "LA", "PA"):
        picture = _converted(picture, mode)  # between the colours of a palette there are none
    picture = _shrunk(picture)
    with suppress(Exception):  # damaged notes; the picture is turned before they are written
        ImageOps.exif_transpose(picture, in_place=True)
    with suppress(KeyError, OSError, ImageCms.PyCMSError):  # no profile, or one that does not fit
        profile = ImageCms.ImageCmsProfile(BytesIO(picture.info["icc_profile"]))
        srgb = ImageCms.createProfile("sRGB")
        picture = ImageCms.profileToProfile(picture, profile, srgb, outputMode=mode) or picture
    picture, file = _converted(picture, mode), BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, icc_profile=None, exif=b"", xmp=b"")
    return file.getvalue(), picture.size


def _shrunk(picture: "Image.Image") -> "Image.Image":
    from PIL import Image

    size, mode = _stored_size(picture), picture.mode
    if picture.size == size:
        return picture
    # Colours count as much as they are seen. `resize` does this, too, but holds the original.
    picture = _converted(picture, "RGBa" if mode == "RGBA" else mode)
    smaller = picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
    picture.close()
    return _converted(smaller, mode)


def _converted(picture: "Image.Image", mode: str) -> "Image.Image":
    """The picture in that mode; what it was before no longer takes memory."""
    if picture.mode == mode:
        return picture
    converted = picture.convert(mode)
    picture.close()
    return converted
