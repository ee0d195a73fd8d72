"""Streams of questions and of their answers: numbered and chained, so that nothing is dropped, repeated, reordered or spliced in unseen.

Pure: the client signs with `ChunkChain`, and a node checks chunks with `ChunkOrder`.

Each chunk is a whole lookup, with its own header, message id and signatures, so it can be judged by itself and counts once; its
`StreamPosition` says which stream it is of, its number, whether it is the last, and the digest of the chunk before it. Each answer
carries the digest of the chunk it answers, that chunk's number, and the digest of the answer before it in the same call.

A stream that broke goes on in a new call, at any of its chunks: the first chunk of a call may have any number, and answers are chained
anew from there. Chunks that had no answer are signed again, with a new message id, because a node takes a message once: the same bytes sent
again are refused as REPLAYED, signed, whether or not their answer arrived. So nothing needs to be remembered about a stream but what any
message leaves behind, and a lost answer is never mistaken for "no hit".
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from vidfed.security.crypto.envelope import Envelope
from vidfed.wire.requests import write_request
from vidfed.wire.statuses import SequenceError
from vidfed.wire.values import REQUEST_TYPE, STREAM_ID_BYTES, StreamPosition

if TYPE_CHECKING:
    from vidfed.security.crypto.keys import Signer
    from vidfed.wire.values import LookupRequest


class ChunkChain:
    """Numbers, chains and signs the chunks of one stream, one after the other."""

    def __init__(self, stream_id: bytes | None = None) -> None:
        self.stream_id = stream_id or secrets.token_bytes(STREAM_ID_BYTES)
        self._signed = 0
        self._previous = b""  # digest of the chunk signed last
        self._ended = False

    def __len__(self) -> int:
        """Number of chunks signed; the number of the next one."""
        return self._signed

    def sign(self, request: LookupRequest, *signers: Signer, last: bool = False) -> tuple[LookupRequest, Envelope]:
        """Return the request with its place in the stream, and the signed envelope.

        Args:
            request: complete but for its place, signed for `STREAM_METHOD`.
            signers: the investigator; others may add their signatures to the envelope later.
            last: nothing comes after it.

        Raises:
            ValueError: the last chunk was signed already.
        """
        if self._ended:
            raise ValueError("the last chunk of this stream was signed already")
        placed = replace(request, stream=StreamPosition(self.stream_id, self._signed, last, self._previous))
        envelope = Envelope(REQUEST_TYPE, write_request(placed)).signed_by(*signers)
        self._signed, self._previous = self._signed + 1, envelope.digest
        self._ended = last
        return placed, envelope


class ChunkOrder:
    """What a node expects next in one call."""

    def __init__(self) -> None:
        self._before: StreamPosition | None = None
        self._digest = b""

    @property
    def begins(self) -> bool:
        """True before the first chunk of the call."""
        return self._before is None

    @property
    def due(self) -> int:
        """Number of the chunk that comes next; 0 before the first."""
        return self._before.number + 1 if self._before else 0

    def accept(self, position: StreamPosition, digest: bytes) -> None:
        """Take the next chunk; `digest` is that of its signed bytes.

        Raises:
            SequenceError: it is not the next one.
        """
        if self._before is not None:
            if position.stream_id != self._before.stream_id:
                raise SequenceError("a chunk of another stream")
            if self._before.last:
                raise SequenceError("a chunk after the last one")
            if position.number != self.due:
                raise SequenceError(f"chunk {position.number} where chunk {self.due} was due")
            if position.previous_digest != self._digest:
                raise SequenceError(f"chunk {position.number} does not continue the chunk before it")
        self._before, self._digest = position, digest

    def finish(self) -> None:
        """Return if the chunks may end here.

        Raises:
            SequenceError: the last chunk is missing.
        """
        if self._before is None or not self._before.last:
            raise SequenceError(f"the stream was cut: it ended where chunk {self.due} was due")
