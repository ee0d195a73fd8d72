"""Asking a member's gateway to certify keys. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from vidfed.rpc.channels import gateway_channel, server_text
from vidfed.security.errors import EnrolmentError
from vidfed.v1 import enrolment_pb2 as pb
from vidfed.v1 import enrolment_pb2_grpc as rpc

if TYPE_CHECKING:
    from vidfed.security.crypto.certificates import TlsIdentity

_CALL_S = 30.0


def enrol(address: str, tls: TlsIdentity, ca: bytes, federation: str, member: str, request: bytes) -> bytes:
    """Hand a request to the gateway and return its reply, unverified.

    Args:
        address: `host:port` of the gateway.
        tls: of the invitation, or of the kit that is to be renewed.
        ca: PEM of the member's CA.
        federation: of that member.
        member: whose gateway.
        request: see `member.enrolment`.

    Raises:
        EnrolmentError: it is refused, or the gateway cannot be reached; the message says which.
    """
    with gateway_channel(address, tls, ca, federation, member) as channel:
        try:
            return bytes(rpc.EnrolmentServiceStub(channel).Enrol(pb.EnrolRequest(request=request), timeout=_CALL_S).reply)
        except grpc.RpcError as error:
            if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise EnrolmentError(
                    f"the gateway at {address} cannot be reached: is it running, is this its address? Without a way to it: "
                    "vidfed enrol --request FILE, and --reply FILE"
                ) from None
            raise EnrolmentError(f"the gateway at {address}: {server_text(error)}") from None
