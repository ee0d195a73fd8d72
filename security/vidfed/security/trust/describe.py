"""What a draft changes and where a federation stands, in sentences for people who do this twice a year, and as JSON."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from tuf.api.metadata import Root, Targets

from vidfed.cli.printable import printable
from vidfed.security.clock import DAY_MS, as_text
from vidfed.security.identity.officers import Accepted
from vidfed.security.trust.draft import signers_of
from vidfed.security.trust.fingerprint import fingerprint
from vidfed.security.trust.metadata_rules import TIMESTAMP_LIFE, check_targets, holder_of, moment_ms, officers_of, public_key, standing_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuf.api.metadata import Key

    from vidfed.security.identity.officers import Rounds
    from vidfed.security.trust.draft import Draft
    from vidfed.security.trust.entry import Entry
    from vidfed.security.trust.federation import FederationFolder

SOON_MS = 30 * DAY_MS
_NARROW = 60  # characters of a text by others in one line


def key_words(key: Key) -> str:
    """Return the words of a public key."""
    return fingerprint(public_key(key).raw)


def changes(draft: Draft) -> list[str]:
    """Return what a draft changes, one sentence each, from what is signed."""
    found: list[str] = []
    if draft.root is not None:
        found += _root_changes(draft.root_before, draft.root.signed)
    if draft.targets is not None:
        found += _member_changes(draft.targets_before.signed if draft.targets_before else None, draft.targets.signed, draft)
    return found or ["nothing but longer lives of what is signed"]


def draft_lines(draft: Draft) -> Iterator[str]:
    """Yield what a holder reads before signing."""
    yield f"change of federation {draft.federation}"
    for change in changes(draft):
        yield f"  - {change}"
    for name, expires_ms in draft.expires().items():
        yield f"  {name} will be valid until {as_text(expires_ms)}"
    yield f"words of this draft: {draft.words}"
    for quorum in draft.quorums():
        signed = ", ".join(quorum.signed) or "nobody yet"
        waiting = "" if quorum.reached else f"; still {quorum.threshold - len(quorum.signed)} of: {', '.join(quorum.missing)}"
        yield f"{quorum.part}: {len(quorum.signed)} of {quorum.threshold} signatures ({signed}{waiting})"


def still_to_sign(draft: Draft) -> list[str]:
    """Return what is missing, one sentence for all parts of the draft that miss the same signatures."""
    found: dict[str, list[str]] = {}
    for quorum in draft.quorums():
        if not quorum.reached:
            few = quorum.threshold - len(quorum.signed)
            names, all_of_them = list(quorum.missing), few == len(quorum.missing)
            listed = (" and " if all_of_them else " or ").join(filter(None, (", ".join(names[:-1]), names[-1])))
            must = f"{'' if few == 1 or all_of_them else f'{few} of '}{listed} must still sign"
            found.setdefault(f"{len(quorum.signed)} of {quorum.threshold}; {must}", []).append(quorum.part)
    return [f"{said}." if len(found) == 1 else f"{', '.join(parts)}: {said}." for said, parts in found.items()]


def draft_document(draft: Draft) -> dict[str, object]:
    """Return the same as JSON."""
    return {
        "federation": draft.federation,
        "changes": changes(draft),
        "words": draft.words,
        "complete": draft.complete,
        "expires_ms": draft.expires(),
        "signatures": [
            {"part": q.part, "threshold": q.threshold, "signed": list(q.signed), "missing": list(q.missing)} for q in draft.quorums()
        ],
    }


def entry_lines(entry: Entry) -> Iterator[str]:
    """Yield what a member's request says: first the words, then its own texts, quoted and so narrow that no terminal wraps them."""
    member = entry.member
    yield f"words     {entry.words}"
    yield f"member    {member.id}"
    for title, text in (("name", member.name), ("endpoint", member.endpoint), ("contact", member.contact)):
        for number, part in enumerate(textwrap.wrap(f'"{printable(text)}"', _NARROW)):
            yield f"{title if number == 0 else '':<9} {part}"


def expiries(folder: FederationFolder) -> dict[str, int]:
    """Return when each published part expires, in ms since the epoch."""
    repository = folder.repository
    parts: dict[str, Any] = {
        "root": repository.root(),
        "members": repository.targets(),
        "snapshot": repository.snapshot(),
        "timestamp": repository.timestamp(),
    }
    return {name: moment_ms(part.signed.expires) for name, part in parts.items() if part is not None}


def is_late(folder: FederationFolder, now_ms: int) -> bool:
    """Tell whether the directory was not confirmed for half of the timestamp's life: whoever should do it does not run."""
    issued_ms = folder.repository.issued_ms()
    return 0 < issued_ms <= now_ms - int(TIMESTAMP_LIFE.total_seconds() * 500)


def remedies(folder: FederationFolder, now_ms: int) -> dict[str, str]:
    """Return what has expired, or is late, each with the command that mends it."""
    found = expiries(folder)
    renew = f"vidfed trust propose renew {folder.folder}, then enough of you: vidfed trust sign; vidfed trust publish {folder.folder}"
    confirm = f"vidfed trust serve {folder.folder} where the online key is; if that is lost: vidfed trust take-over, at a stand-by"
    expired = [name for name, expires_ms in found.items() if expires_ms <= now_ms]
    late = ["timestamp"] if is_late(folder, now_ms) else []
    return {name: renew if name in {"root", "members"} else confirm for name in dict.fromkeys((*expired, *late))}


def status_document(folder: FederationFolder, now_ms: int) -> dict[str, object]:
    """Return what is published, by whom, what expires within 30 days, and what is being signed."""
    found = expiries(folder)
    holder = folder.repository.publisher()
    offline = {name: found[name] for name in ("root", "members") if name in found}
    return {
        "schema": "vidfed.trust-status/1",
        "published": bool(found),
        "words": folder.anchor.words if folder.anchor_path.exists() else "",
        "expires_ms": found,
        "publisher": holder_of(holder) if holder else "",
        "publishers": list(folder.publishers().values()) if found else [],
        "confirmed_ms": folder.repository.issued_ms(),
        "late": is_late(folder, now_ms),
        "remedies": remedies(folder, now_ms),
        "renew_soon": [name for name, expires_ms in offline.items() if expires_ms < now_ms + SOON_MS],
        "expired": [name for name, expires_ms in found.items() if expires_ms <= now_ms],
        "draft": draft_document(folder.draft()) if folder.draft_path.exists() else None,
    }


def show_document(folder: FederationFolder) -> dict[str, object]:
    """Return the published root and members."""
    root = folder.repository.root()
    if root is None:
        return {"schema": "vidfed.directory/2", "published": False}
    directory = folder.directory()
    holders = [{"holder": holder_of(key), "key": key.keyid[:16], "words": key_words(key)} for key in signers_of(root.signed, Root.type)]
    return {
        "schema": "vidfed.directory/2",
        "published": True,
        "federation": directory.federation,
        "words": folder.anchor.words,
        "root_version": root.signed.version,
        "version": directory.version,
        "expires_ms": directory.expires_ms,
        "threshold": root.signed.roles[Root.type].threshold,
        "administrators": holders,
        "members": [
            {
                "id": m.id,
                "name": m.name,
                "endpoint": m.endpoint,
                "contact": m.contact,
                "standing": "quarantine" if m.quarantined else "member",
                "keys": [key.key_id for key in m.signing_keys],
                "revoked_credentials": len(m.revoked),
                "officers": [{"pseudonym": o.pseudonym, "words": fingerprint(o.key.raw), "by": o.by} for o in m.officers.present],
                "officers_waiting": [{"pseudonym": o.pseudonym, "words": fingerprint(o.key.raw)} for o in m.officers.waiting],
            }
            for m in (directory.members[name] for name in sorted(directory.members))
        ],
        "left_out": dict(directory.left_out),
    }


def _root_changes(before: Root | None, after: Root) -> Iterator[str]:
    threshold = after.roles[Root.type].threshold
    keys = {key.keyid: key for key in signers_of(after, Root.type)}
    known = {key.keyid: key for key in signers_of(before, Root.type)} if before else {}
    if before is None:
        yield f"a new federation, whose administrators sign {threshold} of {len(keys)}"
    elif before.roles[Root.type].threshold != threshold:
        yield f"{threshold} of {len(keys)} administrators must sign, no longer {before.roles[Root.type].threshold} of {len(known)}"
    for keyid in known.keys() - keys.keys():
        yield f"{holder_of(known[keyid])} is no longer administrator with key {keyid[:16]}"
    for keyid in sorted(keys.keys() - known.keys(), key=lambda one: holder_of(keys[one])):
        yield f"{holder_of(keys[keyid])} becomes administrator with the key of the words {key_words(keys[keyid])}"
    yield from _publisher_changes(before, after)
    if (after.roles[Targets.type].threshold, set(after.roles[Targets.type].keyids)) != (threshold, set(keys)):
        yield "UNUSUAL: members are not decided by the same administrators as the root"


def _publisher_changes(before: Root | None, after: Root) -> Iterator[str]:
    new = {key.keyid: key for key in signers_of(after, "timestamp")}
    old = {key.keyid: key for key in signers_of(before, "timestamp")} if before else {}
    for keyid in old.keys() - new.keys():
        yield f"{holder_of(old[keyid])} no longer publishes with the online key {keyid[:16]}"
    for keyid in new.keys() - old.keys() if before else ():
        yield f"{holder_of(new[keyid])} publishes with the online key of the words {key_words(new[keyid])}"
    for role in ("timestamp", "snapshot"):
        if (after.roles[role].threshold, after.roles[role].keyids) != (1, list(new)):
            yield f"UNUSUAL: the {role} is not confirmed by each publisher alone"


def _member_changes(before: Targets | None, after: Targets, draft: Draft) -> Iterator[str]:
    old, new = check_targets(before) if before else {}, check_targets(after)
    for member in sorted(old.keys() - new.keys()):
        yield f"{member} is no longer a member"
    for member in sorted(new):
        role, standing = new[member], standing_of(new[member]).value
        entry = draft.entries.get(member)
        described = f'; words {entry.words}, endpoint {entry.member.endpoint}, name "{printable(entry.member.name)}"' if entry else ""
        if member not in old:
            yield f"{member} joins with the standing {standing}{described}"
        elif role.keyids != old[member].keyids:
            yield f"{member} gets another entry key, standing {standing}{described}"
        elif standing != standing_of(old[member]).value:
            yield f"{member} changes its standing from {standing_of(old[member]).value} to {standing}"
        yield from _officer_changes(member, officers_of(old[member]) if member in old else (), officers_of(role), entry)


def _officer_changes(member: str, before: Rounds, after: Rounds, entry: Entry | None) -> Iterator[str]:
    """Yield whom the administrators accept as a member's officers: each with the words of the key, to be read by that person."""
    if after == before:
        return
    if after[: len(before)] != before:
        yield f"UNUSUAL: {member} loses officers whom the administrators accepted"
    by_digest = {
        request.id: request.statement
        for line in (entry.officers.lines if entry is not None else ())
        if isinstance(line, Accepted)
        for request in line.requests
    }
    for number, digests in enumerate(after[len(before) :], len(before)):
        listed = [by_digest.get(digest) for digest in digests]
        said = "; ".join(
            f"{printable(each.pseudonym)}, whose key has the words {fingerprint(each.signing_key.raw)}" if each else "UNUSUAL: one unseen"
            for each in listed
        )
        if number == 0:
            yield f"{member} has as its first officers, who decide on release: {said}"
        else:
            yield f"{member} has its officers ACCEPTED ANEW, without the signature of one there was; those before decide no more: {said}"
