"""The root of trust a member or an investigator starts from: one root file of the federation, as its administrators signed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root

from vidfed.security.errors import DirectoryError
from vidfed.security.files import write_whole
from vidfed.security.trust.fingerprint import fingerprint
from vidfed.security.trust.metadata_rules import check_root, federation_of, parse

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Anchor:
    """One root file. It is public; what matters is that it came from the right hands, so its words are compared by telephone.

    Attributes:
        federation: the id it speaks for.
        version: of the root; newer ones are followed from here.
        words: its fingerprint, over what is signed.
        content: the file.
    """

    federation: str
    version: int
    words: str
    content: bytes

    @classmethod
    def read(cls, content: bytes, what: str = "anchor") -> Anchor:
        """Read a root file and check that as many of its own keys signed it as it asks for.

        Raises:
            DirectoryError: it is not such a file.
        """
        metadata = parse(content, Root, what)
        root: Root = metadata.signed
        check_root(root, federation_of(root))
        try:
            root.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            raise DirectoryError(f"{what}: {error}") from None
        return cls(federation_of(root), root.version, fingerprint(metadata.signed_bytes), content)

    @classmethod
    def load(cls, path: Path) -> Anchor:
        """Read an anchor file.

        Raises:
            DirectoryError: missing or malformed.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DirectoryError(f"{path}: {error.strerror}; an anchor file comes from the federation's administrators") from None
        return cls.read(content, str(path))

    def save(self, path: Path) -> None:
        """Write the anchor file."""
        write_whole(path, self.content)
