"""`vidfed node doctor`: everything a node needs, point by point, on the day when something is wrong or before it is.

The points of an accession (`check`) and what is the operator's own: configuration, records, index, policy, log, kits, services.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from vidfed.casework.carriage.opening import look_at_casework
from vidfed.casework.duty.rota import DUTY_FILE
from vidfed.casework.settings import read_casework_section
from vidfed.node.config import NodeSection, StoreSection
from vidfed.node.errors import StoreError
from vidfed.node.operations.check import Checks, FailedError, Report, WarnedError
from vidfed.node.operations.status import read_status
from vidfed.node.policy.file import POLICY_FILE, not_in_force, read_own_policy
from vidfed.node.policy.lint import lint
from vidfed.node.records.known import open_store
from vidfed.node.records.soundness import check_soundness
from vidfed.node.sources.overview import overview
from vidfed.security.audit import Checkpoint
from vidfed.security.audit.merkle import tree_root
from vidfed.security.clock import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, as_text, system_clock
from vidfed.security.errors import SecurityError
from vidfed.security.identity.replay import refusal_text, refuses_until_ms
from vidfed.security.identity.tls import leaf_expires_ms
from vidfed.security.lockfile import serving_address
from vidfed.security.member.audit_log import audit_location, open_storage, open_witness, read_audit_section
from vidfed.security.member.issued import issued_kits
from vidfed.security.member.logs import LogSection
from vidfed.security.member.rotation import OwnEntry
from vidfed.security.sqlite import connect_read_only
from vidfed.security.trust.metadata_rules import TIMESTAMP_LIFE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from vidfed.security.member.home import MemberHome

_BUSY_S = 5.0
_KITS_LEFT_MS = 7 * DAY_MS
_CA_LEFT_MS = 60 * DAY_MS  # a new CA needs the administrators' overlap
_UNCHECKED_MS = DAY_MS  # a node reads all that it searches every six hours
_CHECKPOINT_MS = 60 * MINUTE_MS
_UNWITNESSED_MS = 60 * MINUTE_MS  # a node asks each minute
_DIRECTORY_LATE_MS = int(TIMESTAMP_LIFE.total_seconds() * SECOND_MS / 2)  # a publisher that runs confirms it twice as often


def examine(home: MemberHome) -> Report:
    """Look at every point of a member's folder and of the nodes it can reach."""
    doctor = _Doctor(home)
    findings = [doctor.run(point, test) for point, test in doctor.points()]
    return Report("doctor", home.federation, home.member, system_clock(), tuple(findings))


class _Doctor(Checks):
    """The points, in the order in which one rests on another."""

    def points(self) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "configuration", self._configuration
        yield "permissions", self._permissions
        yield "directory", self._directory
        yield "directory age", self._directory_age
        yield "clock", self._clock
        yield "keys", self._keys
        yield "tls", self._tls
        yield "ca", self._ca
        yield "entry", self._entry
        yield "rotations", self._rotations
        yield "kits", self._kits
        yield "disk", self._disk
        yield "records", self._records
        yield "sources", self._sources
        yield "index", self._index
        yield "decoding", self._decoding
        yield "policy", self._policy
        yield "requests", self._requests
        yield "duty", self._duty
        yield "audit log", self._audit
        yield "witnesses", self._witnesses
        yield "state", self._state
        yield "replay", self._replay
        yield "node", lambda: self._service("serving", "vidfed node serve")
        yield "gateway", lambda: self._service("gateway-serving", "vidfed gateway serve")
        own = f"node {self._home.member}"
        for point, test in self.nodes():
            yield point, test if point == own else lambda test=test: _as_warning(test)  # type: ignore[misc]  # bound now

    def _configuration(self) -> str:
        for name, kind in (("node", NodeSection), ("store", StoreSection), ("log", LogSection)):
            self._home.section(name, kind)
        read_audit_section(self._home)
        return f"{self._home.config_path} is understood"

    def _directory_age(self) -> str:
        directory = self._source.current()
        left_ms, age_ms = directory.expires_ms - system_clock(), system_clock() - directory.issued_ms
        if age_ms >= _DIRECTORY_LATE_MS:
            ends, whose = as_text(directory.expires_ms), directory.publisher or "its publisher"
            raise WarnedError(
                f"{whose} has not confirmed it for {age_ms // HOUR_MS} hours; it ends {ends}, then "
                "nothing is answered: call them. Where there is another publisher it goes on by itself, or with vidfed trust take-over"
            )
        if left_ms < _DIRECTORY_LATE_MS:
            raise WarnedError(f"ends {as_text(directory.expires_ms)}, then nothing is answered: the administrators renew what they signed")
        return f"version {directory.version} is confirmed for {left_ms // (60 * MINUTE_MS)} hours more"

    def _ca(self) -> str:
        expires_ms = leaf_expires_ms(self._home.ca.certificate)
        if expires_ms < system_clock() + _CA_LEFT_MS:
            raise WarnedError(f"the member's CA ends {as_text(expires_ms)}: vidfed node rotate ca")
        return f"the member's CA ends {as_text(expires_ms)}"

    def _entry(self) -> str:
        """Whether the others know what this member last said of itself."""
        own = OwnEntry(self._home)
        directory = self._source.current()
        version = own.present().version
        if self._home.member not in directory.members:
            raise WarnedError(f"{self._home.member} is not listed: hand {self._home.entry_path} to the administrators")
        waiting = own.unpublished(directory)
        if "entry_key" in waiting:
            raise WarnedError(f"version {version} has another entry key, which only the administrators can publish: hand it to them")
        if waiting:
            raise WarnedError(
                f"version {version} is not published: the others do not know its {', '.join(waiting)}: vidfed node submit, or hand "
                f"{self._home.entry_path} to whoever publishes ({directory.publisher})"
            )
        return f"version {version} of {self._home.entry_path} is what the others know"

    def _rotations(self) -> str:
        begun = OwnEntry(self._home).begun()
        if begun:
            said = [f"{what}: from {as_text(from_ms)} on, vidfed node rotate {what} --finish" for what, from_ms in begun.items()]
            raise WarnedError(f"half done: {'; '.join(said)}")
        return "none is half done"

    def _kits(self) -> str:
        now_ms = system_clock()
        newest = {kit.pseudonym: kit.not_after_ms for kit in issued_kits(self._home)}
        valid = {name: end_ms for name, end_ms in newest.items() if end_ms > now_ms}
        ending = sorted(name for name, end_ms in valid.items() if end_ms < now_ms + _KITS_LEFT_MS)
        if ending:
            raise WarnedError(f"end within a week: {', '.join(ending)}: each person runs vidfed enrol --renew")
        return f"{len(valid)} investigators can ask, none ends within a week"

    def _requests(self) -> str:
        """Whether somebody can answer what others ask, and whether what is asked and answered gets there in time."""
        state = look_at_casework(self._home, self._source)
        if state.undelivered:
            members = ", ".join(sorted({waiting.member for waiting in state.undelivered}))
            raise WarnedError(f"{len(state.undelivered)} entries are not delivered for days, to {members}: call them")
        if state.overdue:
            raise WarnedError(f"{state.overdue} of {state.open} asks of other members are overdue: vidfed requests list")
        if not state.officers:
            raise WarnedError("nobody can read what others ask: no officer (role release-officer) has run `vidfed inbox`")
        return f"{state.officers} officers; {state.open} asks are open, none overdue"

    def _duty(self) -> str:
        """Whether somebody would be called now, and always in the week to come."""
        state = look_at_casework(self._home, self._source)
        path = self._home.folder / DUTY_FILE
        if state.on_duty is None:
            raise WarnedError(f"nobody is on duty: {path} is not there; an ask for a life at risk calls nobody (docs/national-unit.md)")
        section = read_casework_section(self._home)
        if not state.on_duty:
            raise WarnedError(f"nobody is on duty now: {path} has no shift for this moment; everybody of the escalation is called instead")
        if not section.alarm and not (section.mail_host and state.on_duty.mail):
            raise WarnedError(f"{path} has a rota, but nothing calls anybody: set [casework] alarm, or mail_host and the shift's mail")
        if state.not_known:
            raise WarnedError(f"{path} names {', '.join(state.not_known)}, who can read no request: let them run `vidfed inbox`")
        if state.gap_ms is not None:
            raise WarnedError(f"from {as_text(state.gap_ms)} on nobody is on duty: {path}")
        return f"{', '.join((*state.on_duty.people, *state.on_duty.mail))} on duty, and somebody for the week to come"

    def _records(self) -> str:
        with open_store(self._home, reads_only=True) as store:
            state = store.state()
            try:
                check_soundness(store.database)
            except StoreError as error:
                raise FailedError(str(error)) from None
        return f"{state.records} records, change {state.version}; the database is whole"

    def _sources(self) -> str:
        with open_store(self._home, reads_only=True) as store:
            found = overview(self._home, store, system_clock())
        said = []
        for each in found:
            as_of = f"as of {as_text(each.as_of_ms)}" if each.as_of_ms else "never read"
            if not each.configured:
                said.append(f"{each.name} is followed no longer and still in charge of {each.live} records: vidfed node source remove")
            elif each.waiting:
                said.append(f"{each.name} waits for a decision: {each.problem}")
            elif each.behind:
                said.append(f"{each.name} is behind its schedule, {as_of}{f': {each.problem}' if each.problem else ''}")
            elif each.problem:
                said.append(f"{each.name}: {each.problem}")
        if said:
            raise WarnedError(f"{'; '.join(said)}: vidfed node source status")
        return f"{len(found)} followed, none is behind" if found else "none is followed"

    def _index(self) -> str:
        status = read_status(self._home)
        if status.unsound and status.serving:
            raise FailedError(status.checked_line())
        if status.index_version is None and status.serving:
            raise FailedError("a file of it is damaged; the node that runs makes it anew when it comes upon that: restart it to be sure")
        if status.index_version is None:
            raise WarnedError("cannot be read; the node rebuilds it from the records when it starts")
        if status.index_version != status.store_version:
            behind = f"{status.store_version - status.index_version} changes behind the records"
            if status.serving:
                raise FailedError(f"{behind}, so lookups are refused: see the node's log")
            raise WarnedError(f"{behind}; it catches up when the node starts")
        if status.serving and system_clock() - status.checked.checked_ms > _UNCHECKED_MS:
            raise WarnedError("its files were not read in full for a day: see the node's log")
        if status.checked.found and system_clock() - status.checked.found_ms < DAY_MS:
            raise WarnedError(f"{status.checked_line()}; it is whole again: look at the disk, and at the system's log")
        if status.erased_left:
            raise WarnedError(f"{status.erased_line()}; if that lasts, see the node's log")
        return f"equals the records at change {status.index_version}"

    def _decoding(self) -> str:
        from vidfed.index.hashing.workers import standing_walls  # noqa: PLC0415 - loads the imaging libraries' plain parts

        walls = standing_walls()
        missing = [wall for wall in ("namespace", "landlock", "seccomp") if wall not in walls]
        said = f"pictures are decoded in processes held in by {', '.join(walls)}"
        if "landlock" in missing or {"namespace", "seccomp"} <= set(missing):
            what = "open files of this user" if "landlock" in missing else "reach the network"
            raise WarnedError(f"{said}; {', '.join(missing)} missing: one that a file has taken over could {what}")
        return said + (f"; {', '.join(missing)} not allowed here, which the others make up for" if missing else "")

    def _policy(self) -> str:
        path = self._home.folder / POLICY_FILE
        members = self._members()
        policy = read_own_policy(self._home, members)
        if other := not_in_force(self._home, policy, system_clock()):
            raise FailedError(other)
        if not policy.rules:
            raise WarnedError(f"nobody is answered: write a rule into {path}")
        with open_store(self._home, reads_only=True) as store:
            said = list(lint(store, policy))
        if members is not None and (strangers := policy.strangers(members)):
            said.append(f"names {', '.join(strangers)}, not in the trust directory any more")
        if said:
            raise WarnedError(f"{'; '.join(said)}: a mistake? vidfed node policy check")
        return f"{len(policy.rules)} rules for {', '.join(sorted(policy.members()))}"

    def _audit(self) -> str:
        location = audit_location(self._home)
        if isinstance(location, Path) and not location.exists():
            return "not begun: it begins with the first import, lookup or answer"
        with contextlib.closing(open_storage(self._home)) as storage:
            latest = storage.latest_checkpoint()
            size = storage.size()  # afterwards: a running node may add entries and sign them in between
            if latest is None:
                raise WarnedError(f"{size} entries and no checkpoint yet: it is signed when the node runs")
            signed_ms, note = latest
            checkpoint = Checkpoint.parse(note)
            checkpoint.verify(checkpoint.origin, (self._home.audit_signer.public,))
            if checkpoint.size > size or tree_root(storage.read_hashes, checkpoint.size) != checkpoint.root:
                raise FailedError("the log is not what its checkpoint says: do not go on with it; vidfed audit verify")
        if checkpoint.size < size and system_clock() - signed_ms > _CHECKPOINT_MS:
            raise WarnedError(f"{size - checkpoint.size} entries since the last checkpoint at {as_text(signed_ms)}: see the node's log")
        return f"{size} entries, of which {checkpoint.size} are those of the checkpoint of {as_text(signed_ms)}"

    def _witnesses(self) -> str:
        """Whether others vouch for the log, and none contradicts it."""
        location = audit_location(self._home)
        if isinstance(location, Path) and not location.exists():
            return "no log yet"
        others = sorted({*(self._members() or ())} - {self._home.member})
        if not others:
            raise WarnedError("there is no other member: nobody else vouches for the log")
        with contextlib.closing(open_storage(self._home)) as storage:
            begun_ms = min((time_ms for time_ms, _ in storage.checkpoints()), default=None)
        with contextlib.closing(open_witness(self._home)) as witness:
            said, cosigned = witness.disagreements(), witness.cosignatures()
        if refused := [f"{member} since {as_text(each.since_ms)}: {each.said}" for member, each in said.items() if member in others]:
            raise FailedError(f"do not cosign the log: {'; '.join(refused)}")
        newest_ms = max((time_ms for member, (time_ms, _) in cosigned.items() if member in others), default=None)
        late_ms = system_clock() - (newest_ms if newest_ms is not None else begun_ms if begun_ms is not None else system_clock())
        since = f"since {as_text(newest_ms)}" if newest_ms is not None else "ever"
        if late_ms > _UNWITNESSED_MS:
            raise FailedError(f"nobody has cosigned the log {since}: nobody else vouches for it; see the node's log, it asks each minute")
        if newest_ms is None:
            raise WarnedError("nobody has cosigned the log yet; a running node asks each minute")
        count = sum(member in others for member in cosigned)
        return f"{count} of {len(others)} members cosigned the log, last {as_text(newest_ms)}"

    def _state(self) -> str:
        folder = self._home.state_file("replay.db").parent
        files = [path for path in sorted(folder.glob("*.db")) if path != audit_location(self._home)]
        for path in files:
            _whole(
                path, "stop the services and move it away; a new one is made" if path.stem in {"replay", "quotas"} else "restore a backup"
            )
        return f"whole: {', '.join(path.name for path in files) or 'nothing yet'}"

    def _replay(self) -> str:
        """Whether messages can be known to be new."""
        until_ms = refuses_until_ms(self._home.state_file("replay.db"), system_clock())
        if until_ms is not None:
            raise FailedError(
                f"every question is refused; the node {refusal_text(until_ms)}. It passes; if that is far off, set the clock, wait 2 "
                "minutes and delete state/replay.db"
            )
        return "what was seen is remembered"

    def _service(self, file: str, command: str) -> str:
        address = serving_address(self._home.state_file(file))
        if address is None:
            raise WarnedError(f"does not run: {command} --home {self._home.folder}")
        return f"runs on {address}"

    def _members(self) -> Collection[str] | None:
        try:
            return self._source.current().members.keys()
        except SecurityError:
            return None  # an earlier point has said so


def _as_warning(test: Callable[[], str]) -> str:
    """Look at another member's node: what is wrong there is theirs to mend."""
    try:
        return test()
    except FailedError as error:
        raise WarnedError(f"{error}: call the member if it lasts") from None


def _whole(path: Path, advice: str) -> None:
    try:
        with contextlib.closing(connect_read_only(path)) as database:
            ((said,),) = database.execute("PRAGMA integrity_check(1)").fetchall()
    except (sqlite3.Error, ValueError) as error:
        raise FailedError(f"{path}: {error}: {advice}") from None
    if said != "ok":
        raise FailedError(f"{path}: {said}: {advice}")
