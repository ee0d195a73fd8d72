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
        film: it may be a film, which ffmpeg reads.
    """

    media_type: str
    name: str
    decoder: str = ""
    film: bool = False

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
    (b"\x1aE\xdf\xa3", FileType("video/x-matroska", "Matroska or WebM video", film=True)),
    (b"FLV\x01", FileType("video/x-flv", "Flash video", film=True)),
    (b"0&\xb2u\x8ef\xcf\x11", FileType("video/x-ms-asf", "Windows Media", film=True)),
    (b"\0\0\x01\xba", FileType("video/mpeg", "MPEG video", film=True)),
    (b"\0\0\x01\xb3", FileType("video/mpeg", "MPEG video", film=True)),
    (b"OggS", FileType("video/ogg", "Ogg audio or video", film=True)),
    (b".RMF", FileType("application/vnd.rn-realmedia", "RealMedia", film=True)),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", FileType("application/mxf", "MXF video", film=True)),
    (b"DKIF", FileType("video/x-ivf", "IVF video", film=True)),
    (b"YUV4MPEG2", FileType("video/x-yuv4mpeg", "uncompressed video", film=True)),
    (b"nut/multimedia", FileType("video/x-nut", "NUT video", film=True)),
    (b"\xb7\xd8\x00\x20\x37\x49\xda\x11", FileType("video/x-wtv", "recorded television", film=True)),
    (b"\x1f\x07\x00", FileType("video/x-dv", "DV video", film=True)),
    (b"\0\0\0\x01\x67", FileType("video/h264", "H.264 video", film=True)),
    (b"\0\0\0\x01\x09", FileType("video/h264", "H.264 video", film=True)),
    (b"\0\0\0\x01\x40\x01", FileType("video/h265", "H.265 video", film=True)),
    (b"\0\0\x01\xb0", FileType("video/mpeg", "MPEG-4 video", film=True)),
    (b"SQLite format 3\0", FileType("application/vnd.sqlite3", "SQLite database")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileType("application/x-ole-storage", "office document")),
    (b"8BPS", FileType("image/vnd.adobe.photoshop", "Photoshop")),
    (b"<svg", FileType("image/svg+xml", "SVG")),
)
_RIFF: Final = {
    b"WEBP": FileType("image/webp", "WebP", "WEBP"),
    b"AVI ": FileType("video/x-msvideo", "AVI video", film=True),
    b"WAVE": FileType("audio/wav", "WAV audio"),
}
_BRANDS: Final = {
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"), _HEIF),
    b"qt  ": FileType("video/quicktime", "QuickTime video", film=True),
    b"crx ": FileType("image/x-canon-cr3", "Canon raw picture"),
}
_MP4: Final = FileType("video/mp4", "MP4 video or audio", film=True)
_TRANSPORT_STREAM: Final = FileType("video/mp2t", "MPEG transport stream", film=True)
_PACKET_START: Final = 0x47
_MIN_PACKETS: Final = 3
_OLD_QUICKTIME: Final = frozenset((b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
_GENERIC_BRANDS: Final = frozenset((b"mif1", b"msf1", b"mif2", b"miaf"))


def recognise(head: bytes) -> FileType | None:
    """Say what a file is, from its first bytes (a few kilobytes are enough); None if they tell nothing that is known here."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[4:8] in _OLD_QUICKTIME:
        return _BRANDS[b"qt  "]
    if _is_transport_stream(head):
        return _TRANSPORT_STREAM
    return next((kind for start, kind in _BY_START if head.startswith(start)), None)


def _is_transport_stream(head: bytes) -> bool:
    """Whether every packet looked at begins as it must; cameras put four bytes of time before each, broadcasts add 16 of checksum."""
    for first, step in ((0, 188), (4, 192), (0, 204)):
        starts = range(first, len(head), step)
        if len(starts) >= _MIN_PACKETS and all(head[at] == _PACKET_START for at in starts):
            return True
    return False


def _by_brand(head: bytes) -> FileType:
    """Tell the files of the ISO base media format apart: the major brand, and where that is generic the compatible ones."""
    size = min(int.from_bytes(head[:4]), len(head))
    major = head[8:12]
    compatible = [head[at : at + 4] for at in range(16, size - 3, 4)]
    brands = [*compatible, major] if major in _GENERIC_BRANDS else [major, *compatible]
    specific = [brand for brand in brands if brand not in _GENERIC_BRANDS]
    return next((_BRANDS[brand] for brand in (*specific, major) if brand in _BRANDS), _MP4)
