"""`vidfed trust ...`: the administrators' ceremony, and a member's handing out of kits. Thin: parse, call, print."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from vidfed.cli.terminal import HELP, JSON, note, print_json, say
from vidfed.security.cli.ceremony import make_in_token, print_published, public_key, say_next, sign_and_publish, signer
from vidfed.security.cli.common import (
    COMMAND,
    FILE,
    new_passphrase,
    passphrase_from,
    passphrase_options,
    passphrases_from,
    signers_passphrase_options,
)
from vidfed.security.cli.kits import certify, investigators, issue_investigator, officers, remove_officer, revoke_investigator
from vidfed.security.cli.propose import propose
from vidfed.security.errors import SecurityError

_FOLDER = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
_FOLLOW = click.option(
    "--follow",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where another publisher's directory can be seen; may be repeated.",
)


@click.group(context_settings=HELP)
def trust() -> None:
    """Say who is a member, m of n administrators together; hand out investigators' kits."""


for _command in (issue_investigator, certify, investigators, revoke_investigator, officers, remove_officer, propose):
    trust.add_command(_command)


@trust.command(cls=COMMAND)
@click.argument("keys", nargs=-1, required=True, type=FILE)
@click.option("--no-passphrase", is_flag=True, help="Leave the files open: for a first look, never for a real federation.")
@passphrase_options
@JSON
def keygen(keys: tuple[Path, ...], no_passphrase: bool, passphrase_file: Path | None, passphrase_fd: int | None, as_json: bool) -> None:
    """Make an administrator's key in each file KEYS, closed with a passphrase, and its public half in KEY.pub.

    The file's name without ending is the holder's name. Do this on a machine that is not online, and keep the key there.

    A key named pkcs11:TOKEN/LABEL is made in that hardware token, whose PIN is asked for; its public half goes to LABEL.pub.
    """
    from vidfed.security.crypto.keys import SigningKey
    from vidfed.security.crypto.pkcs11 import PREFIX
    from vidfed.security.files import write_whole
    from vidfed.security.trust.fingerprint import fingerprint

    made = []
    for path in keys:
        if str(path).startswith(PREFIX):
            made.append(make_in_token(str(path), passphrase_from(passphrase_file, passphrase_fd)))
            continue
        if path.exists():
            raise click.ClickException(f"{path}: exists; a key is never overwritten")
        passphrase = None
        if not no_passphrase:
            source = passphrase_from(passphrase_file, passphrase_fd)
            passphrase = source(str(path))
            if passphrase_file is None and passphrase_fd is None and source(f"{path}, again") != passphrase:
                raise click.ClickException("not the same twice")
        key = SigningKey.generate()
        key.save(path, passphrase)
        public = path.with_name(f"{path.name}.pub")
        write_whole(public, f"{key.public.text} {path.stem}\n".encode())
        made.append({"key": str(path), "public": str(public), "words": fingerprint(key.public.raw)})
    if as_json:
        print_json({"schema": "vidfed.keys/1", "keys": made})
        return
    for entry in made:
        note(f"Made {entry['key']}; words of the key: {entry['words']}. Hand out {entry['public']}.")


@trust.command(cls=COMMAND)
@_FOLDER
@click.option("--open", "opening", is_flag=True, help="Take the passphrase off again.")
@passphrase_options
def passphrase(folder: Path, opening: bool, passphrase_file: Path | None, passphrase_fd: int | None) -> None:
    """Close the online key in FOLDER with a passphrase, so that who copies the disk or a backup cannot confirm anything.

    Who publishes takes it as a node does: the file that $VIDFED_PASSPHRASE_FILE names, or systemd's credential vidfed-passphrase.
    """
    from vidfed.security.trust.federation import FederationFolder

    opened = FederationFolder(folder, passphrase=passphrase_from(passphrase_file, passphrase_fd))
    if opening:
        done = opened.open_online_keys()
    else:
        done = opened.close_online_keys(new_passphrase(f"the online key of {folder}", passphrase_file, passphrase_fd))
    note(f"{'Opened' if opening else 'Closed'} {', '.join(done) or 'nothing: it was already'}.")


@trust.command(cls=COMMAND)
@_FOLDER
@click.option("--federation", required=True, help="Id of the federation, e.g. europe.")
@click.option("--threshold", required=True, type=click.IntRange(1), help="How many administrators must sign a change.")
@click.option("--key", "keys", multiple=True, required=True, type=FILE, help="An administrator's public key file; repeat for each.")
@click.option("--publisher", default="online", help="What to call this publisher: the member's id if a member's node publishes.")
@click.option("--sign", "signing", multiple=True, type=FILE, help="A key file to sign with at once; may be repeated.")
@click.option("--publish", "at_once", is_flag=True, help="Publish at once, if enough have signed.")
@signers_passphrase_options
@JSON
def create(
    folder: Path,
    federation: str,
    threshold: int,
    keys: tuple[Path, ...],
    publisher: str,
    signing: tuple[Path, ...],
    at_once: bool,
    passphrase_files: tuple[Path, ...],
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Begin a federation in FOLDER: the draft of its first root, and the online key that confirms what is newest."""
    from vidfed.security.trust.federation import FederationFolder

    holders = dict(public_key(path) for path in keys)
    if len(holders) != len(keys):
        raise click.ClickException("two administrators of the same name")
    made = FederationFolder.create(folder, federation, holders, threshold, publisher=publisher)
    passphrases = passphrases_from(passphrase_files, passphrase_fd, len(signing))
    sign_and_publish(made, made.draft(), signing, passphrases, at_once=at_once, as_json=as_json)


@trust.command(cls=COMMAND)
@click.argument("draft", type=FILE)
@click.option("--key", "keys", multiple=True, required=True, type=FILE, help="Your key file.")
@click.option("--anchor", type=FILE, help="A root you already trust: what changes is then judged from it, not from the draft's own words.")
@click.option("--yes", is_flag=True, help="Do not ask; the words were compared by telephone.")
@signers_passphrase_options
@JSON
def sign(
    draft: Path,
    keys: tuple[Path, ...],
    anchor: Path | None,
    yes: bool,
    passphrase_files: tuple[Path, ...],
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Show what DRAFT (FOLDER/draft.json or a copy of it) changes, ask, and sign it. Needs no network and nothing but the file."""
    from vidfed.security.trust.anchor import Anchor
    from vidfed.security.trust.describe import draft_lines
    from vidfed.security.trust.draft import Draft

    passphrases = passphrases_from(passphrase_files, passphrase_fd, len(keys))
    read = Draft.load(draft)
    beside = draft.with_name("anchor.json")
    known = anchor or (beside if beside.exists() else None)
    read.check(Anchor.load(known) if known else None)
    for line in draft_lines(read):
        note(line)
    if known is None and read.roots_before:
        note("NOT COMPARED with a root you trust (--anchor): what it says it changes is its own claim.")
    if not yes:
        click.confirm("Are these the words the others read, and shall this be signed?", abort=True, err=True)
    names = []
    for key, source in zip(keys, passphrases, strict=True):
        with signer(key, source) as held:
            read = read.sign(held)
            names.append(read.holder(held.public))
    read.save(draft)
    say_next(read, draft, as_json=as_json, signed_by=names)


@trust.command(cls=COMMAND)
@_FOLDER
@click.argument("copies", nargs=-1, type=FILE)
@JSON
def publish(folder: Path, copies: tuple[Path, ...], as_json: bool) -> None:
    """Publish the draft in FOLDER, with the signatures of COPIES of it, if enough administrators have signed."""
    from vidfed.security.trust.draft import Draft
    from vidfed.security.trust.federation import FederationFolder

    opened = FederationFolder(folder)
    print_published(opened, opened.publish([Draft.load(path) for path in copies]), as_json=as_json)


@trust.command(cls=COMMAND)
@_FOLDER
def withdraw(folder: Path) -> None:
    """Drop the draft in FOLDER. What was signed of it is worthless without being published."""
    from vidfed.security.trust.federation import FederationFolder

    FederationFolder(folder).withdraw()


@trust.command(cls=COMMAND)
@_FOLDER
@click.argument("entry", type=FILE)
@JSON
def accept(folder: Path, entry: Path, as_json: bool) -> None:
    """Publish a member's newer ENTRY (its member.json). No ceremony: the member's own key, which you delegated to, must have signed it."""
    from vidfed.security.trust.entry import Entry
    from vidfed.security.trust.federation import FederationFolder

    opened = FederationFolder(folder)
    print_published(opened, opened.accept(Entry.load(entry)), as_json=as_json)


@trust.command(cls=COMMAND)
@_FOLDER
@JSON
def status(folder: Path, as_json: bool) -> None:
    """Show what is published and when it expires, what is being signed, who has signed and who is missing.

    Exit status 1 if something has expired; the command that mends it is said.
    """
    from vidfed.security.clock import DAY_MS, HOUR_MS, as_text, system_clock
    from vidfed.security.trust.describe import draft_lines, expiries, is_late, remedies, status_document
    from vidfed.security.trust.federation import FederationFolder

    opened = FederationFolder(folder)
    now_ms = system_clock()
    found = expiries(opened)
    expired = any(expires_ms <= now_ms for expires_ms in found.values())
    if as_json:
        print_json(status_document(opened, now_ms))
    else:
        for name, expires_ms in found.items():
            left = (expires_ms - now_ms) // DAY_MS
            said = "EXPIRED" if expires_ms <= now_ms else f"in {left} days"
            renew_it = "; RENEW IT NOW" if name in {"root", "members"} and left < 30 else ""  # noqa: PLR2004 - days
            say(f"{name:<10} valid until {as_text(expires_ms)} ({said}){renew_it}")
        if found:
            late = f"; LATE: not once in {(now_ms - opened.repository.issued_ms()) // HOUR_MS} hours" if is_late(opened, now_ms) else ""
            holder = status_document(opened, now_ms)["publisher"] or "a key that is no publisher's any more"
            say(f"confirmed  {as_text(opened.repository.issued_ms())} by {holder}, of {', '.join(opened.publishers().values())}{late}")
        for name, remedy in remedies(opened, now_ms).items():
            say(f"MEND {name}: {remedy}")
        for line in draft_lines(opened.draft()) if opened.draft_path.exists() else ["nothing is being signed"]:
            say(line)
    if expired:
        raise SystemExit(1)


@trust.command(cls=COMMAND)
@_FOLDER
@click.option("--anchor", type=FILE, required=True, help="The federation's anchor.json.")
@click.option("--name", required=True, help="What to call this publisher; the member's id if a member's node publishes.")
@JSON
def stand_by(folder: Path, anchor: Path, name: str, as_json: bool) -> None:
    """Make FOLDER for a further publisher, which goes on if the others are lost; its online key is made here and stays here.

    Its public half, FOLDER/online.key.pub, goes to the administrators, who sign it in: vidfed trust propose add-publisher.
    """
    from vidfed.security.documents import MAX_NAME_CHARS, check_line
    from vidfed.security.errors import DirectoryError
    from vidfed.security.files import write_whole
    from vidfed.security.trust.anchor import Anchor
    from vidfed.security.trust.federation import FederationFolder
    from vidfed.security.trust.fingerprint import fingerprint

    check_line(name, MAX_NAME_CHARS, DirectoryError, "--name")
    _, public = FederationFolder.stand_by(folder, Anchor.load(anchor))
    path = folder / "online.key.pub"
    write_whole(path, f"{public.text} {name}\n".encode())
    if as_json:
        print_json({"schema": "vidfed.publisher/1", "name": name, "public": str(path), "words": fingerprint(public.raw)})
        return
    note(f"Made {folder}; words of its online key: {fingerprint(public.raw)}. Hand out {path}.")
    note(f"Next: the administrators: vidfed trust propose add-publisher FOLDER {path.name}")


@trust.command(cls=COMMAND)
@_FOLDER
@_FOLLOW
@click.option("--yes", is_flag=True, help="Do not ask; it is sure that no other publisher runs.")
@JSON
def take_over(folder: Path, follow: tuple[Path, ...], yes: bool, as_json: bool) -> None:
    """Publish from FOLDER at once, without waiting until the other publisher's lease is over: its machine is lost, or was stopped.

    What can be seen of the other's directory (--follow) is taken first.
    """
    from vidfed.security.clock import system_clock
    from vidfed.security.trust.federation import FederationFolder
    from vidfed.security.trust.mirrors import FolderMirror

    opened = FederationFolder(folder)
    for path in follow:
        opened.repository.adopt(FolderMirror(path), opened.anchor, system_clock())
    if not yes:
        click.confirm("Is it sure that no other publisher runs?", abort=True, err=True)
    print_published(opened, opened.take_over(), as_json=as_json)


@trust.command(cls=COMMAND)
@_FOLDER
@JSON
def show(folder: Path, as_json: bool) -> None:
    """Show the federation in FOLDER as it is published: administrators, members, keys."""
    from vidfed.security.clock import as_text
    from vidfed.security.trust.describe import show_document
    from vidfed.security.trust.federation import FederationFolder

    document: dict[str, object] = show_document(FederationFolder(folder))
    if as_json:
        print_json(document)
        return
    if not document["published"]:
        say("nothing is published yet; `vidfed trust status` shows what is being signed")
        return
    say(f"federation {document['federation']}, words of its first root: {document['words']}")
    say(f"directory version {document['version']}, to be confirmed before {as_text(int(str(document['expires_ms'])))}")
    _print_people(document)


def _print_people(document: dict[str, object]) -> None:
    holders, members, left_out = document["administrators"], document["members"], document["left_out"]
    assert isinstance(holders, list)  # noqa: S101 - for the type checker; `show_document` made it
    assert isinstance(members, list)  # noqa: S101 - the same
    assert isinstance(left_out, dict)  # noqa: S101 - the same
    say(f"administrators, {document['threshold']} of {len(holders)}:")
    for holder in holders:
        say(f"  {holder['holder']:<8} {holder['words']}")
    say(f"members: {len(members) or 'nobody yet'}")
    for member in members:
        say(f"  {member['id']:<8} {member['standing']}, {member['name']}, {member['endpoint']}, contact {member['contact']}")
        for officer in member["officers"]:
            say(f"    officer {officer['pseudonym']}, by {officer['by'] or 'the administrators'}: {officer['words']}")
        for officer in member["officers_waiting"]:
            say(f"    waits to be accepted as officer: {officer['pseudonym']}: {officer['words']}")
    for member_id, reason in left_out.items():
        say(f"  {member_id:<8} LEFT OUT: its entry {reason}")


@trust.command(cls=COMMAND)
@click.argument("draft", type=FILE)
@click.option("--anchor", type=FILE, help="A root you already trust.")
@JSON
def diff(draft: Path, anchor: Path | None, as_json: bool) -> None:
    """Show what DRAFT changes and who has signed it, without signing."""
    from vidfed.security.trust.anchor import Anchor
    from vidfed.security.trust.describe import draft_document, draft_lines
    from vidfed.security.trust.draft import Draft

    read = Draft.load(draft)
    read.check(Anchor.load(anchor) if anchor else None)
    if as_json:
        print_json({"schema": "vidfed.draft/1", **draft_document(read)})
        return
    for line in draft_lines(read):
        say(line)


@trust.command(cls=COMMAND)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--anchor", type=FILE, required=True, help="The root you trust.")
@JSON
def verify(directory: Path, anchor: Path, as_json: bool) -> None:
    """Verify a published DIRECTORY (a folder, a USB stick) from a root you trust, as a newcomer would."""
    from vidfed.security.clock import as_text, system_clock
    from vidfed.security.trust.anchor import Anchor
    from vidfed.security.trust.repository import Repository

    found = Repository(directory).directory(Anchor.load(anchor), system_clock())
    if as_json:
        members = sorted(found.members)
        print_json({"schema": "vidfed.verify/1", "federation": found.federation, "version": found.version, "members": members})
        return
    names = ", ".join(sorted(found.members)) or "nobody"
    say(f"holds: federation {found.federation}, version {found.version}, until {as_text(found.expires_ms)}: {names}")


@trust.command(cls=COMMAND)
@_FOLDER
@_FOLLOW
def serve(folder: Path, follow: tuple[Path, ...]) -> None:
    """Keep the timestamp in FOLDER renewed until SIGTERM or Ctrl-C. Needs the online key, which confirms what is newest and nothing else.

    Members take FOLDER/directory from a share, or from a member's node that follows it.

    Of several publishers one writes: the others stand by, and one of them goes on once nothing was confirmed for 12 hours.
    """
    import signal
    import threading

    from vidfed.security.member.logs import log_to_stderr
    from vidfed.security.trust.federation import FederationFolder
    from vidfed.security.trust.mirrors import FolderMirror
    from vidfed.security.trust.publisher import Publisher

    log_to_stderr()
    opened = FederationFolder(folder)
    publisher = Publisher(opened, [FolderMirror(path) for path in follow])
    publisher.look()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    say(f"keeping {opened.repository.folder} confirmed")
    while not ended.wait(_LOOK_S):
        try:
            publisher.look()
        except SecurityError as error:  # tomorrow's repair must not find a process that gave up today
            logging.getLogger(__name__).error("ALARM: cannot confirm: %s", error)  # noqa: TRY400 - the reason, not our stack


_LOOK_S = 60.0  # how often the timestamp's life is looked at; it is renewed when half of its 24 hours are over
