"""The hash algorithms of the field: length, distance, defaults, text form.

Sources: PDQ and its threshold of 31 and quality of 50: "The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing
Algorithm" (Facebook, 2019). pHash, dHash, aHash, wHash: the 64-bit forms of the `imagehash` package. PhotoDNA: 144 bytes compared by
squared Euclidean distance, as exchanged in VICS files; computed only by licensed tools, never here.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from enum import Enum, unique

from vidfed.index.errors import DistanceError, HashTextError
from vidfed.index.texts import read_code_text


@unique
class DistanceKind(Enum):
    """How two codes of one algorithm are compared."""

    EQUALITY = "equality"
    HAMMING = "hamming"
    SQUARED_EUCLIDEAN = "squared_euclidean"


@dataclass(frozen=True, slots=True)
class _Form:
    """What one algorithm's codes look like and how far apart two of them may be."""

    code_bytes: int
    kind: DistanceKind
    default_distance: int
    maximum_distance: int
    label: str
    why_no_further: str = ""


_RANDOM_HITS = "beyond it, unrelated pictures match at random"
_HASH64 = (8, DistanceKind.HAMMING, 8, 10)


@unique
class Algorithm(Enum):
    """One hash algorithm; its value is the name used on the command line, in files and on screen."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    PDQ = "pdq"
    PHASH = "phash"
    DHASH = "dhash"
    AHASH = "ahash"
    WHASH = "whash"
    PHOTODNA = "photodna"

    __hash__ = object.__hash__  # there is one of each; Enum's own hashes the name, in Python, tens of times for each lookup

    @property
    def code_bytes(self) -> int:
        """Length of one code, in bytes."""
        return _FORMS[self].code_bytes

    @property
    def parts(self) -> int:
        """Of how many parts, compared each for itself, a code's distance is the sum: bits, or PhotoDNA's numbers."""
        return self.code_bytes * (8 if self.distance_kind is DistanceKind.HAMMING else 1)

    @property
    def distance_kind(self) -> DistanceKind:
        """How two codes are compared."""
        return _FORMS[self].kind

    @property
    def default_distance(self) -> int:
        """The distance (inclusive) used when nobody says otherwise."""
        return _FORMS[self].default_distance

    @property
    def maximum_distance(self) -> int:
        """The largest distance (inclusive) that may be asked for."""
        return _FORMS[self].maximum_distance

    @property
    def label(self) -> str:
        """The name as the field writes it, for people."""
        return _FORMS[self].label

    @property
    def is_digest(self) -> bool:
        """True for digests of a file's bytes, compared by equality only."""
        return self.distance_kind is DistanceKind.EQUALITY

    @property
    def is_perceptual(self) -> bool:
        """True for hashes of what a picture looks like, compared by distance."""
        return not self.is_digest

    @property
    def is_weak_alone(self) -> bool:
        """True for 64-bit perceptual hashes: one of them alone brings unrelated pictures together (docs/adr/0060)."""
        return self.is_perceptual and self.code_bytes == _HASH64[0]

    def check_distance(self, distance: int) -> int:
        """Return `distance` if it may be asked for.

        Raises:
            DistanceError: it is negative or beyond `maximum_distance`; the message says why there is a maximum.
        """
        form = _FORMS[self]
        if distance < 0:
            raise DistanceError(f"{form.label}: a distance cannot be negative, got {distance}")
        if distance > form.maximum_distance:
            reason = f"distance {distance} is beyond the maximum of {form.maximum_distance}: {form.why_no_further}"
            raise DistanceError(f"{form.label}: {reason}")
        return distance

    def parse(self, text: str) -> bytes:
        """Read one code from its text form, in any of the forms of `texts`.

        Raises:
            HashTextError: the text has the wrong length or alphabet.
        """
        form = _FORMS[self]
        code = read_code_text(text, form.code_bytes)
        if code is not None:
            return code
        stripped = text.strip()
        if len(stripped) == 2 * form.code_bytes:
            raise HashTextError(f"{form.label}: not hex: only 0-9 and a-f may occur")
        if self is Algorithm.PHOTODNA:
            raise HashTextError(f"{form.label}: {len(stripped)} characters, expected 192 of base64, 288 hex digits or 144 numbers")
        raise HashTextError(f"{form.label}: {len(stripped)} characters, expected {2 * form.code_bytes} hex digits")

    def format(self, code: bytes) -> str:
        """Write one code in its text form: lower-case hex, or base64 for PhotoDNA. The inverse of `parse`."""
        return base64.b64encode(code).decode() if self is Algorithm.PHOTODNA else code.hex()


_FORMS = {
    Algorithm.MD5: _Form(16, DistanceKind.EQUALITY, 0, 0, "MD5", "a digest is equal or it is not"),
    Algorithm.SHA1: _Form(20, DistanceKind.EQUALITY, 0, 0, "SHA-1", "a digest is equal or it is not"),
    Algorithm.SHA256: _Form(32, DistanceKind.EQUALITY, 0, 0, "SHA-256", "a digest is equal or it is not"),
    Algorithm.PDQ: _Form(32, DistanceKind.HAMMING, 31, 64, "PDQ", _RANDOM_HITS),
    Algorithm.PHASH: _Form(*_HASH64, "pHash", _RANDOM_HITS),
    # At 8, 8 of 8,218 pairs of unrelated photographs match; at 3, one of them (docs/adr/0060). Re-encoding moves 0 to 2 bits.
    Algorithm.DHASH: _Form(8, DistanceKind.HAMMING, 3, 10, "dHash", _RANDOM_HITS),
    Algorithm.AHASH: _Form(*_HASH64, "aHash", _RANDOM_HITS),
    Algorithm.WHASH: _Form(*_HASH64, "wHash", _RANDOM_HITS),
    Algorithm.PHOTODNA: _Form(144, DistanceKind.SQUARED_EUCLIDEAN, 40_000, 40_000, "PhotoDNA", _RANDOM_HITS),
}


@dataclass(frozen=True, slots=True)
class Hash:
    """One code of one algorithm. Its `str` is `algorithm:text`, the form the command line takes."""

    algorithm: Algorithm
    code: bytes = field(repr=False)  # what is logged by mistake must not hold it

    def __post_init__(self) -> None:
        if len(self.code) != self.algorithm.code_bytes:
            raise HashTextError(f"{self.algorithm.label}: {len(self.code)} bytes, expected {self.algorithm.code_bytes}")

    @classmethod
    def parse(cls, text: str) -> Hash:
        """Read `algorithm:text`, as in `pdq:f8f8...` or `sha256:e3b0...`.

        Raises:
            HashTextError: no algorithm is named, it is unknown, or its code has the wrong form.
        """
        name, separator, value = text.strip().partition(":")
        if not separator:
            raise HashTextError(f"{_shown(text)}: name the algorithm, as in pdq:HEX or sha256:HEX")
        try:
            algorithm = Algorithm(name.strip().lower())
        except ValueError:
            known = ", ".join(algorithm.value for algorithm in Algorithm)
            raise HashTextError(f"unknown algorithm {_shown(name)}; known are {known}") from None
        return cls(algorithm, algorithm.parse(value))

    def __str__(self) -> str:
        return f"{self.algorithm.value}:{self.algorithm.format(self.code)}"


def _shown(text: str, longest: int = 40) -> str:
    """Quote what a user typed, cut to a length that keeps one error on one line."""
    return repr(text if len(text) <= longest else text[: longest - 3] + "...")
