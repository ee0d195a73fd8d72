"""`vidfed node backup|backup-key|restore|adopt-store`. Thin: parse, call, print."""

from __future__ import annotations

from pathlib import Path

import click

from vidfed.cli.terminal import HOME, note, progress, say
from vidfed.node.cli.options import COMMAND


@click.command("backup-key", cls=COMMAND)
@click.argument("private", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("public", type=click.Path(path_type=Path, dir_okay=False))
def backup_key(private: Path, public: Path) -> None:
    """Make the key pair that backups are sealed to: PRIVATE opens them and belongs in a safe; PUBLIC stays with the node.

    Make it on a machine without a network if you can. Without PRIVATE no backup is ever read again.
    """
    from vidfed.security.crypto.sealed_file import make_recipient

    make_recipient(private, public)
    say(f"{private} opens the backups: take it away from this machine, twice. {public} stays: vidfed node backup FOLDER --to {public}")


@click.command(cls=COMMAND)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "recipient",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Back up everything, sealed to this public key of `vidfed node backup-key`. Without it: the records alone, not sealed.",
)
@click.option("--register-only", is_flag=True, help="With --to: only which records were erased or retracted; small, for every hour.")
@click.option("--keep", default=14, show_default=True, type=click.IntRange(1), help="With --to a folder: how many backups stay in it.")
@HOME
def backup(file: Path, recipient: Path | None, register_only: bool, keep: int, home: Path) -> None:
    """Write a backup to FILE, while the node serves; with --to FILE may be a folder.

    With --to: records, audit log, keys, state, trust and casework, on PostgreSQL too, sealed for the holder of the private key. Without:
    a copy of the records alone, verified before it gets its name; it holds every hash, so keep it as safe as the store.
    """
    from vidfed.node.config import store_location
    from vidfed.node.operations.whole_backup import back_up_all, backup_name, drop_older
    from vidfed.node.records.backup import back_up
    from vidfed.security.audit import Event, Operation
    from vidfed.security.crypto.sealed_file import read_recipient
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    if recipient is None:
        if register_only or file.is_dir():
            raise click.UsageError("a folder, or --register-only, goes with --to")
        with logged(member_home, Operation.CONSULTATION, Event.RECORDS_BACKED_UP), progress() as bar:
            task = bar.add_task("copying", total=None)
            back_up(store_location(member_home), file, lambda done, total: bar.update(task, completed=done, total=total))
        say(f"{file}: {file.stat().st_size} bytes, verified")
        return
    target = file / backup_name(member_home, register_only=register_only) if file.is_dir() else file
    with logged(member_home, Operation.CONSULTATION, Event.RECORDS_BACKED_UP, what="register" if register_only else "everything"):
        size = back_up_all(member_home, target, read_recipient(recipient), register_only=register_only)
    say(f"{target}: {size} bytes, sealed for the key in {recipient}")
    if file.is_dir() and (dropped := drop_older(member_home, file, keep, register_only=register_only)):
        note(f"{dropped} older ones were deleted; {keep} stay")


@click.command(cls=COMMAND)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="The private key, for a sealed backup of everything."
)
@click.option(
    "--register", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="The latest sealed register, `--register-only`."
)
@HOME
def restore(file: Path, key: Path | None, register: Path | None, home: Path) -> None:
    """Put the backup FILE back. With --key: everything, into a folder that is not there yet. Without: the records.

    Of the records, what was erased or retracted since the backup was made is taken out again: by state/store.db where it is left, or by
    --register. Without a register everything put back stays withheld. The node must not run; it rebuilds its index when it starts. The
    present SQLite store stays beside a restored one, as records.db.before-restore.
    """
    from vidfed.node.config import store_location
    from vidfed.node.operations.whole_backup import restore_all
    from vidfed.node.records.backup import restore as put_back
    from vidfed.node.records.known import store_memory
    from vidfed.security.audit import Event, Operation
    from vidfed.security.clock import system_clock
    from vidfed.security.crypto.sealing_key import load_sealing_key
    from vidfed.security.lockfile import serving_address
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome

    if key is not None:
        member_home, removed, withheld = restore_all(file, load_sealing_key(key), home, register)
        with logged(member_home, Operation.ALTERATION, Event.RECORDS_RESTORED, what="everything", removed_again=removed):
            pass
        say(f"{home} is restored from {file}; the index is rebuilt when the node starts")
        if removed:
            say(f"{removed} records that were erased or retracted since that backup was made were taken out of it again")
        if withheld:
            say("The records are WITHHELD, nothing is answered from them: no register says what was erased or retracted since the backup.")
            say("If you have one: remove the folder, and restore again with --register. If there is none: vidfed node adopt-store --help")
        note("Next: vidfed audit new-epoch --reason ..., because the log is older than what the others hold of it; then start the node")
        return
    if register is not None:
        raise click.UsageError("--register goes with --key")
    member_home = MemberHome(home)
    if address := serving_address(member_home.state_file("serving")):
        raise click.ClickException(f"the node serves on {address}: stop it first")
    location, memory = store_location(member_home), store_memory(member_home)
    with logged(member_home, Operation.ALTERATION, Event.RECORDS_RESTORED) as done:
        removed = put_back(location, file, member_home.folder / "index", memory, now_ms=system_clock())
        done["removed_again"] = removed
    say(f"restored from {file}; the index is rebuilt when the node starts")
    if removed:
        say(f"{removed} records that were erased or retracted since that backup was made were taken out of it again")


@click.command("adopt-store", cls=COMMAND)
@click.option("--make", is_flag=True, help="Make an empty store where [store] says, if there is none.")
@click.option("--reason", required=True, help="Why this node has another record store from now on: for the audit log.")
@HOME
def adopt_store(make: bool, reason: str, home: Path) -> None:
    """Take the store that [store] names as this node's, after it was moved to another database on purpose.

    A node answers only from the store that it had before; another one, an empty one or an older copy in its place is refused, because it
    would say "no match" about records that are elsewhere. To go back to a backup use `restore`: it takes out again what was erased since.
    """
    from contextlib import closing

    from vidfed.node.config import store_location
    from vidfed.node.records.known import store_memory
    from vidfed.node.records.lifecycle import take_out_again
    from vidfed.node.records.store import RecordStore
    from vidfed.security.audit import Event, Operation
    from vidfed.security.clock import system_clock
    from vidfed.security.lockfile import serving_address
    from vidfed.security.member.audit_log import logged
    from vidfed.security.member.home import MemberHome

    member_home = MemberHome(home)
    if address := serving_address(member_home.state_file("serving")):
        raise click.ClickException(f"the node serves on {address}: stop it first")
    with (
        logged(member_home, Operation.ALTERATION, Event.RECORDS_RESTORED, what="another store", reason=reason) as done,
        closing(RecordStore(store_location(member_home), make=make)) as store,
    ):
        memory = store_memory(member_home)
        # An older copy, as a database server put back to a moment, brings back what was erased since.
        removed = take_out_again(store, memory.removals() if memory.exists else (), now_ms=system_clock())
        memory.adopt(store)
        done["removed_again"] = removed
        state = store.state()
        done["records"] = state.records
    say(f"this node has {store.database.name} from now on: {state.records} records, change {state.version}")
    if removed:
        say(f"{removed} records that were erased or retracted in the store before it were taken out of it again")
