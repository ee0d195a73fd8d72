"""The asking side of a stream, by hand: what order answers must come in, and chunks signed again."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from vidfed.wire.statuses import SequenceError, Status

if TYPE_CHECKING:
    from vidfed.wire.stream import ChunkChain
    from vidfed.wire.values import AnswerHeader


def fork(chain: ChunkChain) -> ChunkChain:
    """Return a second chain that goes on where this one is now, to sign the same chunk twice."""
    return copy.copy(chain)


class AnswerOrder:
    """What an asker expects next from one node in one call. Whether an answer holds at all is to be verified before."""

    def __init__(self, first: int = 0) -> None:
        """Expect the answer to chunk `first`, the first that was sent in this call."""
        self.due = first
        self._previous = b""
        self._ended = False

    def accept(self, header: AnswerHeader, digest: bytes) -> None:
        """Take the next answer; `digest` is that of its signed bytes.

        A refusal that ends the stream may carry another number: a node that could not read a chunk does not know which one it was.

        Raises:
            SequenceError: it is not the next one.
        """
        if self._ended:
            raise SequenceError("an answer after the last one")
        ends = header.last and header.status is not Status.ANSWERED
        if header.sequence != self.due and not ends:
            raise SequenceError(f"the answer to chunk {header.sequence} where that to chunk {self.due} was due")
        if header.previous_digest != self._previous:
            raise SequenceError(f"the answer to chunk {header.sequence} does not continue the answer before it")
        self.due += 1
        self._previous, self._ended = digest, header.last

    def finish(self) -> None:
        """Return if the answers may end here.

        Raises:
            SequenceError: the last answer is missing.
        """
        if not self._ended:
            raise SequenceError(f"the stream was cut: the answer to chunk {self.due} is missing")
