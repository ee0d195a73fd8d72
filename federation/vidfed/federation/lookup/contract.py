"""What a client and its gateway agree on beside the .proto files: metadata, statuses and the entries of the mailbox."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

COLLECTING_KEY = "vidfed-collecting-until-ms"
"""Metadata of a lookup's call whose replies are kept: until when late ones are collected."""

NOT_IN_THE_LOG = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE})
"""What a node says of an entry that its log does not show; passed on as it is."""


@dataclass(frozen=True, slots=True)
class MailboxEntry:
    """What the gateway's mailbox holds of one request.

    Attributes:
        id: digest of the signed request, 32 bytes.
        asked_ms: when it was asked.
        collecting_until_ms: when late answers stop being collected.
        kept_until_ms: when the entry is deleted.
        asked: members that were asked.
        replies: replies kept so far.
    """

    id: bytes
    asked_ms: int
    collecting_until_ms: int
    kept_until_ms: int
    asked: int
    replies: int
