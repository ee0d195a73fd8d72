"""Bytes that are no message of a call's type are refused here, before they reach a service, in words that do not depend on them.

gRPC's own way is a traceback in the log for each of them, and the exception's text for the caller: a member that sends garbage as fast as
it can fills the other members' disks, where their audit logs are.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from vidfed.rpc.channels import peer_certificate
from vidfed.security.errors import PeerError
from vidfed.security.identity.tls import claimed_peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

LINE_EVERY_S = 60.0
"""Of what one caller can make a service say again and again, one line is logged in so much time, with how often it happened since."""
_MOST_CALLERS = 1_000  # that are remembered; callers are nodes and investigators with a certificate by some member
_REFUSAL = (grpc.StatusCode.INVALID_ARGUMENT, "not a message of this call")
_UNPARSED = object()
_log = logging.getLogger(__name__)
_Context = grpc.aio.ServicerContext[Any, Any]


class UnparsedError(Exception):
    """The bytes of a stream's next message are none. A service lets this pass: the call is refused here."""


@dataclass(slots=True)
class LineLimiter:
    """Says when a line about somebody is due again. For one thread."""

    clock_s: Callable[[], float] = time.monotonic
    _silent: dict[str, tuple[float, int]] = field(default_factory=dict)

    def due(self, who: str) -> int | None:
        """Count an occurrence; return how many there were since the last line, this one included, or None if none is due."""
        until_s, count = self._silent.get(who, (0.0, 0))
        now_s = self.clock_s()
        if now_s < until_s:
            self._silent[who] = until_s, count + 1
            return None
        if len(self._silent) >= _MOST_CALLERS:
            self._silent = {each: state for each, state in self._silent.items() if state[0] > now_s}
        self._silent[who] = now_s + LINE_EVERY_S, 0
        return count + 1


class ParsingInterceptor(grpc.aio.ServerInterceptor):
    """Refuses what cannot be parsed, whatever the service; logs it once a minute and caller."""

    def __init__(self, lines: LineLimiter | None = None) -> None:
        self._lines = lines or LineLimiter()
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the service's handler for a call with reading of messages that cannot fail; None if no service has it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if method not in self._wrapped:  # of the methods that there are: who calls others gets None
            self._wrapped[method] = self._wrap(handler)
        return self._wrapped[method]

    def _wrap(self, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        behaviours = (
            (handler.unary_unary, self._one, grpc.unary_unary_rpc_method_handler),
            (handler.unary_stream, self._one_to_many, grpc.unary_stream_rpc_method_handler),
            (handler.stream_unary, self._many_to_one, grpc.stream_unary_rpc_method_handler),
            (handler.stream_stream, self._many, grpc.stream_stream_rpc_method_handler),
        )
        for behaviour, wrap, make in behaviours:
            if behaviour is not None:
                read = handler.request_deserializer
                return make(
                    wrap(behaviour),
                    request_deserializer=_lenient(read) if read else None,
                    response_serializer=handler.response_serializer,
                )
        return handler

    def _one(self, behaviour: Any) -> Any:  # noqa: ANN401 - any method's
        async def unary_unary(request: object, context: _Context) -> object:
            if request is _UNPARSED:
                await self._refuse(context)
            return await behaviour(request, context)

        return unary_unary

    def _one_to_many(self, behaviour: Any) -> Any:  # noqa: ANN401
        async def unary_stream(request: object, context: _Context) -> AsyncIterator[object]:
            if request is _UNPARSED:
                await self._refuse(context)
            async for response in _responses(behaviour(request, context)):
                yield response

        return unary_stream

    def _many_to_one(self, behaviour: Any) -> Any:  # noqa: ANN401
        async def stream_unary(requests: AsyncIterator[object], context: _Context) -> object:
            try:
                return await behaviour(_parsed(requests), context)
            except UnparsedError:
                await self._refuse(context)

        return stream_unary

    def _many(self, behaviour: Any) -> Any:  # noqa: ANN401
        async def stream_stream(requests: AsyncIterator[object], context: _Context) -> AsyncIterator[object]:
            try:
                async for response in _responses(behaviour(_parsed(requests), context)):
                    yield response
            except UnparsedError:
                await self._refuse(context)

        return stream_stream

    async def _refuse(self, context: _Context) -> NoReturn:
        caller = _caller(context)
        if (count := self._lines.due(caller)) is not None:
            _log.warning("refused %d calls of %s that hold no message; said once in %.0f s", count, caller, LINE_EVERY_S)
        await context.abort(*_REFUSAL)


def new_server(options: Sequence[tuple[str, Any]], *, maximum_concurrent_rpcs: int | None = None) -> grpc.aio.Server:
    """Return a server, not yet bound, that refuses bytes which are no message."""
    return grpc.aio.server(interceptors=[ParsingInterceptor()], options=list(options), maximum_concurrent_rpcs=maximum_concurrent_rpcs)


def _lenient(read: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def parse(received: bytes) -> object:
        try:
            return read(received)
        except (DecodeError, ValueError, RecursionError):  # the pure-Python parser, where the other is missing, raises the latter two
            return _UNPARSED

    return parse


async def _responses(made: Any) -> AsyncIterator[object]:  # noqa: ANN401 - any method's
    """Give what a streaming method gives: it is a generator, or a coroutine that writes for itself or refuses."""
    if not hasattr(made, "__aiter__"):
        await made
        return
    async with contextlib.aclosing(made):
        async for response in made:
            yield response


async def _parsed(requests: AsyncIterator[object]) -> AsyncIterator[object]:
    async for request in requests:
        if request is _UNPARSED:
            raise UnparsedError
        yield request


def _caller(context: _Context) -> str:
    """Return which member the caller's certificate names; the certificate is by some member's CA, or the call had not come so far."""
    try:
        return claimed_peer(peer_certificate(context))[1].member
    except (PeerError, KeyError):
        return "somebody unnamed"
