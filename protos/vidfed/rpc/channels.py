"""gRPC over the federation's TLS: what both ends of every connection share."""

from __future__ import annotations

import logging
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import grpc

from vidfed.cli.printable import printable
from vidfed.security.crypto.certificates import TlsIdentity, check_identity
from vidfed.security.errors import SecurityError
from vidfed.security.identity.tls import node_name, node_server_name
from vidfed.wire.values import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from vidfed.security.identity.directory import Directory, DirectorySource, Member

_log = logging.getLogger(__name__)

_ENVELOPE_OVERHEAD_BYTES = 64 * 1024  # credential, signatures and framing around the largest payload
_LIMIT = MAX_MESSAGE_BYTES + _ENVELOPE_OVERHEAD_BYTES
_COMMON = (("grpc.max_receive_message_length", _LIMIT), ("grpc.max_send_message_length", _LIMIT))
SERVER_OPTIONS = (
    *_COMMON,
    ("grpc.so_reuseport", 0),  # a second process on the same address is a mistake, and says so
    ("grpc.max_connection_age_ms", 600_000),  # bounds how long a dropped peer's connection lives
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.max_concurrent_streams", 200),
)
_UNKNOWN_S = 10.0  # for a connection to an address and its TLS handshake
_REPLACING_S = 0.25  # far longer than a handshake takes to be begun
_CLIENT_OPTIONS = (
    *_COMMON,
    ("grpc.enable_retries", 0),  # a lookup is signed for one use; the layer above decides what is safe to repeat
    ("grpc.use_local_subchannel_pool", 1),
)


class TlsSnapshots:
    """What a server shows and whom it lets in, as of now; the last that was sound when what comes now is not.

    gRPC asks on a thread of its own for each handshake, and takes an exception or a damaged certificate as "no change" in silence: so what
    comes is checked first, and a failure is said here. Keeping the old opens nothing: every call is checked against the directory again.
    """

    def __init__(self, own_tls: Callable[[], TlsIdentity], directory_source: DirectorySource) -> None:
        """Take the first snapshot.

        Raises:
            SecurityError: there is no valid directory, key or certificate to start with.
        """
        self._own_tls = own_tls
        self._source = directory_source
        self._sound = self._take()

    def latest(self) -> tuple[TlsIdentity, bytes]:
        """Return the own certificate and the PEM of all members' CAs."""
        try:
            self._sound = self._take()
        except SecurityError as error:
            _log.error("ALARM: TLS keeps its old certificate and trust: %s", error)
        return self._sound

    def _take(self) -> tuple[TlsIdentity, bytes]:
        identity = self._own_tls()
        check_identity(identity)
        return identity, b"\n".join(member.tls_ca for member in self._source.current().members.values())


def server_credentials(own_tls: Callable[[], TlsIdentity], directory_source: DirectorySource) -> grpc.ServerCredentials:
    """Return credentials that require a client certificate from some member's CA and follow the directory and renewed certificates.

    gRPC takes only one merged set of roots here; who the caller is must be decided again with `verify_peer` on every call.

    Raises:
        SecurityError: there is no valid directory, key or certificate to start with.
    """
    snapshots = TlsSnapshots(own_tls, directory_source)
    shown = snapshots.latest()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Return what is new, None if nothing is; called by gRPC before each handshake, under its lock."""
        nonlocal shown
        latest = snapshots.latest()
        if latest == shown:
            return None
        # What is replaced is freed, and gRPC's lock does not cover the moment in which another thread begins a handshake with it: the
        # process would crash, at the will of whoever opens connections (grpc/grpc#36693). Nobody comes past the lock while this waits.
        time.sleep(_REPLACING_S)
        shown = latest
        return _certificate_configuration(latest)

    first = _certificate_configuration(shown)
    return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=True)  # type: ignore[arg-type]  # None: no change


def _certificate_configuration(shown: tuple[TlsIdentity, bytes]) -> grpc.ServerCertificateConfiguration:
    identity, roots = shown
    return grpc.ssl_server_certificate_configuration([(identity.key, identity.certificate)], roots)


def peer_certificate(context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    """Return the TLS certificate that a caller presented, PEM. gRPC has checked only that some member's CA issued it: see `verify_peer`."""
    (leaf_pem,) = context.auth_context()["x509_pem_cert"]
    return bytes(leaf_pem)


def open_channel(address: str, own_tls: TlsIdentity, directory: Directory, member: Member) -> grpc.aio.Channel:
    """Open a channel to a member's node or gateway, accepting its certificate from that member's own CA only."""
    return grpc.aio.secure_channel(address, *_channel_terms(own_tls, directory, member))


def blocking_channel(address: str, own_tls: TlsIdentity, directory: Directory, member: Member) -> grpc.Channel:
    """Open the same channel for use outside an event loop."""
    return grpc.secure_channel(address, *_channel_terms(own_tls, directory, member))


def gateway_channel(address: str, own_tls: TlsIdentity, ca: bytes, federation: str, member: str) -> grpc.Channel:
    """Open a channel to a member's gateway by what an invitation says of it, before there is a directory. Blocking."""
    credentials = grpc.ssl_channel_credentials(ca, own_tls.key, own_tls.certificate)
    name = node_server_name(federation, member)
    return grpc.secure_channel(address, credentials, [*_CLIENT_OPTIONS, ("grpc.ssl_target_name_override", name)])


def unknown_member_channel(address: str, own_tls: TlsIdentity, federation: str) -> grpc.Channel:
    """Open a channel to whatever answers at an address, for one who knows no member's CA yet. Blocking.

    The certificate it presents is the one the channel then insists on; nobody vouches for it. Only what is verified by itself may be taken
    from there: the trust directory's files, from the anchor.

    Raises:
        OSError: nothing answers there, or nothing that is called like a node of this federation.
    """
    host, _, port = address.rpartition(":")
    terms = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    terms.check_hostname = False
    terms.verify_mode = ssl.CERT_NONE
    terms.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host.strip("[]"), int(port)), timeout=_UNKNOWN_S) as plain,
        terms.wrap_socket(plain) as wrapped,
    ):
        leaf = wrapped.getpeercert(binary_form=True) or b""
    name = node_name(leaf)
    if not name.endswith(f".{federation}.vidfed"):
        raise OSError(0, f"is no node of federation {federation}")
    credentials = grpc.ssl_channel_credentials(ssl.DER_cert_to_PEM_cert(leaf).encode(), own_tls.key, own_tls.certificate)
    return grpc.secure_channel(address, credentials, [*_CLIENT_OPTIONS, ("grpc.ssl_target_name_override", name)])


def _channel_terms(own_tls: TlsIdentity, directory: Directory, member: Member) -> tuple[grpc.ChannelCredentials, list[tuple[str, object]]]:
    credentials = grpc.ssl_channel_credentials(member.tls_ca, own_tls.key, own_tls.certificate)
    name = node_server_name(directory.federation, member.id)
    return credentials, [*_CLIENT_OPTIONS, ("grpc.ssl_target_name_override", name)]


def server_text(error: grpc.RpcError) -> str:
    """Return what a server said of its error as it may be shown to people; the name of the status if it said nothing."""
    return printable(error.details() or error.code().name.lower().replace("_", " "))
