"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FileType:
    """A kind of file.

    Attributes:
        media_type: as in `image/jpeg`.
        name: as people call it.
        decoder: Pillow's name of the format if it is a picture that is decoded, else empty.
    """

    media_type: str
    name: str
    decoder: str = ""

    @property
    def is_picture(self) -> bool:
        """True for pictures, also of formats whose decoder is not installed."""
        return bool(self.decoder)


_JPEG = FileType("image/jpeg", "JPEG", "JPEG")
_TIFF = FileType("image/tiff", "TIFF", "TIFF")
_HEIF = FileType("image/heic", "HEIC", "HEIF")
_AVIF = FileType("image/avif", "AVIF", "AVIF")
_JPEG_2000 = FileType("image/jp2", "JPEG 2000", "JPEG2000")
_JPEG_XL = FileType("image/jxl", "JPEG XL", "JXL")

_BY_START: Final = (
    (b"\xff\xd8\xff", _JPEG),
    (b"\x89PNG\r\n\x1a\n", FileType("image/png", "PNG", "PNG")),
    (b"GIF87a", FileType("image/gif", "GIF", "GIF")),
    (b"GIF89a", FileType("image/gif", "GIF", "GIF")),
    (b"BM", FileType("image/bmp", "BMP", "BMP")),
    *((start, _TIFF) for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    *((start, _JPEG_2000) for start in (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    *((start, _JPEG_XL) for start in (b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a")),
    (b"%PDF-", FileType("application/pdf", "PDF")),
    (b"PK\x03\x04", FileType("application/zip", "ZIP or office document")),
    (b"Rar!\x1a\x07", FileType("application/vnd.rar", "RAR")),
    (b"7z\xbc\xaf\x27\x1c", FileType("application/x-7z-compressed", "7z")),
    (b"\x1f\x8b", FileType("application/gzip", "gzip")),
    (b"\x1aE\xdf\xa3", FileType("video/x-matroska", "Matroska or WebM video")),
    (b"FLV\x01", FileType("video/x-flv", "Flash video")),
    (b"0&\xb2u\x8ef\xcf\x11", FileType("video/x-ms-asf", "Windows Media")),
    (b"\0\0\x01\xba", FileType("video/mpeg", "MPEG video")),
    (b"\0\0\x01\xb3", FileType("video/mpeg", "MPEG video")),
    (b"OggS", FileType("video/ogg", "Ogg audio or video")),
    (b"SQLite format 3\0", FileType("application/vnd.sqlite3", "SQLite database")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileType("application/x-ole-storage", "office document")),
    (b"8BPS", FileType("image/vnd.adobe.photoshop", "Photoshop")),
    (b"<svg", FileType("image/svg+xml", "SVG")),
)
_RIFF: Final = {
    b"WEBP": FileType("image/webp", "WebP", "WEBP"),
    b"AVI ": FileType("video/x-msvideo", "AVI video"),
    b"WAVE": FileType("audio/wav", "WAV audio"),
}
_BRANDS: Final = {
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"), _HEIF),
    b"qt  ": FileType("video/quicktime", "QuickTime video"),
    b"crx ": FileType("image/x-canon-cr3", "Canon raw picture"),
}
_MP4: Final = FileType("video/mp4", "MP4 video or audio")
_GENERIC_BRANDS: Final = frozenset((b"mif1", b"msf1", b"mif2", b"miaf"))


def recognise(head: bytes) -> FileType | None:
    """Say what a file is, from its first bytes (a few kilobytes are enough); None if they tell nothing that is known here."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    return next((kind for start, kind in _BY_START if head.startswith(start)), None)


def _by_brand(head: bytes) -> FileType:
    """Tell the files of the ISO base media format apart: the major brand, and where that is generic the compatible ones."""
    size = min(int.from_bytes(head[:4]), len(head))
    major = head[8:12]
    compatible = [head[at : at + 4] for at in range(16, size - 3, 4)]
    brands = [*compatible, major] if major in _GENERIC_BRANDS else [major, *compatible]
    specific = [brand for brand in brands if brand not in _GENERIC_BRANDS]
    return next((_BRANDS[brand] for brand in (*specific, major) if brand in _BRANDS), _MP4)
