"""What a running service counts and measures, and the listener from which Prometheus reads it. No name of a person, no case, no hash.

A service that counts imports it only inside `counting.counting_in`: prometheus_client looks at the environment when it is loaded.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, multiprocess, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vidfed.rpc.counting import FOLDER_VARIABLE, runs
from vidfed.security.clock import SECOND_MS
from vidfed.security.errors import SecurityError
from vidfed.security.identity.tls import leaf_expires_ms
from vidfed.security.member.audit_log import open_storage
from vidfed.wire.statuses import ServeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vidfed.security.identity.directory import DirectorySource
    from vidfed.security.member.home import MemberHome

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def serving_metrics(listen: str, *collectors: Collector) -> Iterator[str]:
    """Answer Prometheus at `host:port` over plain HTTP while inside, and give the address; do nothing where `listen` is empty.

    Args:
        listen: where; anything but this machine's own loopback is said in the log, for everybody who reaches it can read.
        collectors: what is shown.

    Raises:
        ServeError: the address is none.
    """
    if not listen:
        yield ""
        return
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise ServeError(f"metrics_listen must be host:port, not {listen!r}")
    if host not in _LOOPBACK:
        _log.warning("metrics are readable by whoever reaches %s: there is no password", listen)
    try:
        registry = CollectorRegistry()
        for collector in collectors:
            registry.register(collector)
        server, thread = start_http_server(int(port), host, registry)
    except OSError as error:
        # Nobody goes unanswered because nobody can watch.
        _log.error("no metrics: cannot listen on %s: %s; set metrics_listen to a free address", listen, error.strerror)
        yield ""
        return
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Counted(Collector):
    """What all processes of a service counted, in the folder of `counting.counting_in`.

    Before it is read it drops the present values of processes that have ended. What they counted stays.
    """

    def __init__(self) -> None:
        self._folder = Path(os.environ[FOLDER_VARIABLE])
        self._counted = multiprocess.MultiProcessCollector(None)  # type: ignore[no-untyped-call]  # it has no annotations

    def collect(self) -> Iterator[Metric]:
        """Yield all of it."""
        for path in self._folder.glob("gauge_live*.db"):
            pid = path.stem.rpartition("_")[2]
            if not runs(pid):
                multiprocess.mark_process_dead(int(pid))  # type: ignore[no-untyped-call]  # it has no annotations
        yield from self._counted.collect()  # type: ignore[no-untyped-call]


class MemberCollector(Collector):
    """What is true of a member's folder when it is read, whichever service reads it. A part that cannot be read says so and is left out."""

    def __init__(self, home: MemberHome, directory_source: DirectorySource) -> None:
        self._home = home
        self._source = directory_source

    def collect(self) -> Iterator[Metric]:
        """Yield all of it."""
        readable = GaugeMetricFamily("vidfed_readable", "1 if this part of the member's folder can be read.", labels=["part"])
        for part, read in self.parts().items():
            try:
                metrics = read()
            except (SecurityError, OSError) as error:
                _log.warning("no metrics of the %s: %s", part, error)
                readable.add_metric([part], 0)
            else:
                readable.add_metric([part], 1)
                yield from metrics
        yield readable

    def parts(self) -> dict[str, Callable[[], list[Metric]]]:
        """Return what reads each part."""
        return {"disk": self._disk, "audit log": self._audit, "directory": self._directory, "certificate": self._certificate}

    def _disk(self) -> list[Metric]:
        usage = shutil.disk_usage(self._home.folder)
        return [
            GaugeMetricFamily("vidfed_disk_free_bytes", "Free where the member's folder is.", usage.free),
            GaugeMetricFamily("vidfed_disk_bytes", "All there is where the member's folder is.", usage.total),
        ]

    def _audit(self) -> list[Metric]:
        with contextlib.closing(open_storage(self._home)) as storage:
            entries, checkpoint_ms = storage.size(), (storage.latest_checkpoint() or (0, ""))[0]
            size_bytes = storage.database.size_bytes()
        return [
            GaugeMetricFamily("vidfed_audit_entries", "Entries of the audit log.", entries),
            GaugeMetricFamily("vidfed_audit_bytes", "Size of the audit log, where it is stored.", size_bytes),
            GaugeMetricFamily(
                "vidfed_audit_checkpoint_timestamp_seconds", "When the newest checkpoint was signed.", checkpoint_ms / SECOND_MS
            ),
        ]

    def _directory(self) -> list[Metric]:
        directory = self._source.current()
        return [
            GaugeMetricFamily("vidfed_directory_version", "Version of the trust directory.", directory.version),
            GaugeMetricFamily("vidfed_directory_members", "Members in the trust directory.", len(directory.members)),
            GaugeMetricFamily("vidfed_directory_issued_timestamp_seconds", "When it was signed.", directory.issued_ms / SECOND_MS),
            GaugeMetricFamily("vidfed_directory_expires_timestamp_seconds", "When it ends.", directory.expires_ms / SECOND_MS),
        ]

    def _certificate(self) -> list[Metric]:
        expires_ms = leaf_expires_ms(self._home.node_tls().certificate)
        return [GaugeMetricFamily("vidfed_certificate_expires_timestamp_seconds", "When the TLS certificate ends.", expires_ms / SECOND_MS)]
