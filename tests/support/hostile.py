"""What a peer that means harm can put into a message: hypothesis strategies over any protobuf message, and over checkpoints."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st

from vidfed.security.audit.notes import Checkpoint, log_origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

    from vidfed.security.crypto.keys import Signer

AnyMessage = TypeVar("AnyMessage", bound="Message")
_DIGITS = "9" * 5_000  # more than int() takes
_ROOT = base64.b64encode(bytes(32)).decode()
_OTHER_DIGITS = "\N{ARABIC-INDIC DIGIT THREE}\N{SUPERSCRIPT TWO}"

sizes = st.sampled_from(
    ["0", "1", "7", "007", "-1", "+1", "1_0", "", " 1", "1e9", _DIGITS, str(1 << 63), str((1 << 63) - 1), _OTHER_DIGITS]
)
roots = st.sampled_from([_ROOT, _ROOT[:-1], _ROOT + "=", "", "!", base64.b64encode(bytes(31)).decode(), "A" * 70_000])
lines = st.sampled_from(
    ["", "\u2014 ", "\u2014 a", "\u2014 a b", "\u2014 a+b AAAA", "\u2014 a AAAAAAA=", "\u2014 a " + "A" * 68_000, "\u2014 a AAAAAAAAAAA="]
)
texts = st.one_of(
    st.sampled_from(["", "nl", "\0", "\u202e", "\x1b[2J", "[/x]", "a" * 70_000, _DIGITS, "inv-1\n", "..", "\u2028"]), st.text(max_size=40)
)
blobs = st.one_of(
    st.sampled_from([b"", bytes(16), bytes(31), bytes(32), bytes(64), b"\xff" * 33, b"{}", b"[" * 2_000]), st.binary(max_size=80)
)


@st.composite
def notes(draw: st.DrawFn, federation: str, member: str, signer: Signer) -> str:
    """Draw a checkpoint that is malformed somewhere, or well formed and signed by the true key: both are in a member's power."""
    origin = draw(st.sampled_from([log_origin(federation, member), log_origin(federation, "xx"), "", "o" * 70_000]))
    if draw(st.booleans()):
        size = draw(st.sampled_from([0, 1, 3, 7, (1 << 63) - 1]))
        signed = Checkpoint(origin, size, draw(st.sampled_from([bytes(32), b"\1" * 32]))).signed_by(signer)
        return signed.text * draw(st.sampled_from([1, 1, 1, 2]))
    body = "\n".join([origin, draw(sizes), draw(roots), *draw(st.lists(texts, max_size=1))])
    return (
        body + draw(st.sampled_from(["\n\n", "\n", ""])) + draw(st.sampled_from(["\n", ""])).join(draw(st.lists(lines, max_size=3))) + "\n"
    )


@st.composite
def mutated(draw: st.DrawFn, message: AnyMessage, strings: st.SearchStrategy[str] = texts) -> AnyMessage:
    """Draw a copy of a message in which one to three fields, anywhere in it, have become something else, or gone."""
    copy = type(message)()
    copy.CopyFrom(message)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(copy))
        inside, field = draw(st.sampled_from(places))
        _change(draw, inside, field, strings)
    return copy


def _places(message: Message) -> Iterator[tuple[Message, Any]]:
    for field in message.DESCRIPTOR.fields:
        yield message, field
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            value = getattr(message, field.name)
            if field.is_repeated:
                for each in value:
                    yield from _places(each)
            elif message.HasField(field.name):
                yield from _places(value)


def _change(draw: st.DrawFn, message: Message, field: FieldDescriptor, strings: st.SearchStrategy[str]) -> None:
    if field.is_repeated and draw(st.booleans()):
        values = getattr(message, field.name)
        if len(values):
            values.extend(list(values) * draw(st.sampled_from([1, 2, 9])))
        return
    message.ClearField(field.name)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return
    values = {
        FieldDescriptor.TYPE_STRING: strings,
        FieldDescriptor.TYPE_BYTES: blobs,
        FieldDescriptor.TYPE_BOOL: st.booleans(),
        FieldDescriptor.TYPE_ENUM: st.sampled_from([0, 1, 2, 9, 99, -1, 2**31 - 1]),
    }
    value: Any = draw(values.get(field.type, st.sampled_from(_numbers(field))))
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _numbers(field: FieldDescriptor) -> list[int]:
    signed = field.type in {
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_SINT32,
    }
    wide = field.type in {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_SINT64}
    most = 2 ** ((64 if wide else 32) - signed) - 1
    return [0, 1, 7, 255, 256, most, *([-1, -most - 1] if signed else [])]
