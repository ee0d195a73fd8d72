"""What is true of a node now, for Prometheus. What its pipeline counts: lookup/metrics.py. Names begin with vidfed_node_."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from vidfed.casework.carriage.opening import look_at_casework
from vidfed.casework.errors import CaseworkStoreError
from vidfed.node.config import NodeSection
from vidfed.node.errors import NodeError
from vidfed.node.policy.file import POLICY_FILE, not_in_force, read_own_policy
from vidfed.node.records.known import open_store
from vidfed.node.search.checked import last_check
from vidfed.node.search.erasure import indexes_with_erased
from vidfed.node.sources.overview import overview
from vidfed.rpc.metrics import Counted, MemberCollector, serving_metrics
from vidfed.security.clock import system_clock
from vidfed.security.errors import SecurityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from vidfed.node.lookup.admission import Admission
    from vidfed.node.search.catalogue import Catalogue
    from vidfed.security.member.home import MemberHome

_running = Gauge("vidfed_node_running", "Lookups being worked on.", multiprocess_mode="livesum")
_waiting = Gauge("vidfed_node_waiting", "Lookups waiting for a thread.", multiprocess_mode="livesum")
_records = Gauge("vidfed_node_records", "Records when they were last counted.", multiprocess_mode="mostrecent")
_index_version = Gauge(
    "vidfed_node_index_version", "Change of the records that the search index has reached.", multiprocess_mode="mostrecent"
)
_store_version = Gauge("vidfed_node_store_version", "Last change of the records.", multiprocess_mode="mostrecent")
_records_changed = Gauge(
    "vidfed_node_records_changed_timestamp_seconds", "When the records last changed; 0: never.", multiprocess_mode="mostrecent"
)
_policy_taken = Gauge(
    "vidfed_node_policy_taken_timestamp_seconds", "When the policy in force was taken over.", multiprocess_mode="mostrecent"
)


_answering = Gauge("vidfed_node_answering", "1 if lookups are answered now; 0: they are refused.", multiprocess_mode="mostrecent")
_answers_from = Gauge(
    "vidfed_node_answers_from_timestamp_seconds",
    "Until when every question is refused because it cannot be known to be new, if in the future.",
    multiprocess_mode="mostrecent",
)


def observe_answering(*, answering: bool, from_ms: int) -> None:
    """Take down whether lookups are answered, and from when on messages can be known to be new."""
    _answering.set(answering)
    _answers_from.set(from_ms / 1000)


def observe(catalogue: Catalogue, admission: Admission[Any, Any], policy_taken_ms: int) -> None:
    """Take down what changes by itself; called every second or so."""
    have, want = catalogue.progress()
    _index_version.set(have)
    _store_version.set(want)
    _records.set(catalogue.records)
    _records_changed.set(catalogue.changed_ms / 1000)
    _running.set(admission.running)
    _waiting.set(admission.waiting)
    _policy_taken.set(policy_taken_ms / 1000)


def serving_node_metrics(home: MemberHome) -> AbstractContextManager[str]:
    """Answer Prometheus about a node while inside; see `serving_metrics`. Inside `counting_in`."""
    return serving_metrics(home.section("node", NodeSection).metrics_listen, Counted(), NodeCollector(home, home.directory_source()))


class NodeCollector(MemberCollector):
    """What is true of a node's folder when it is read."""

    def parts(self) -> dict[str, Callable[[], list[Metric]]]:
        """Return what reads each part."""
        return super().parts() | {"index": self._index, "policy": self._policy, "sources": self._sources, "requests": self._requests}

    def _index(self) -> list[Metric]:
        size = sum(path.stat().st_size for path in (self._home.folder / "index").rglob("*") if path.is_file())
        with open_store(self._home, reads_only=True) as store:
            left = indexes_with_erased(self._home.folder / "index", store.last_erasure())
        last, checked = last_check(self._home.folder / "index"), "When all that is searched was last found whole; 0: never."
        damage = "When something that is searched was last found damaged; 0: never."
        held = "Indexes whose files may still hold codes of erased records."
        return [
            GaugeMetricFamily("vidfed_node_index_bytes", "Size of the search index.", size),
            GaugeMetricFamily("vidfed_node_indexes_with_erased_codes", held, len(left)),
            GaugeMetricFamily("vidfed_node_whole_timestamp_seconds", checked, last.whole_ms / 1000),
            GaugeMetricFamily("vidfed_node_damage_timestamp_seconds", damage, last.found_ms / 1000),
        ]

    def _requests(self) -> list[Metric]:
        """What other members ask about own records, and whether somebody would be called."""
        try:
            state = look_at_casework(self._home, self._source)
        except CaseworkStoreError as error:
            raise OSError(str(error)) from None
        asks = GaugeMetricFamily(
            "vidfed_node_requests_open", "Asks of other members without an answer, by how far their time is gone.", labels=["time"]
        )
        asks.add_metric(["in time"], state.open - state.half_spent)
        asks.add_metric(["half spent"], state.half_spent - state.overdue)
        asks.add_metric(["overdue"], state.overdue)
        on_duty = 0 if state.on_duty is None else len(state.on_duty.people) + len(state.on_duty.mail)
        return [
            asks,
            GaugeMetricFamily("vidfed_node_requests_undelivered", "Own entries that are not delivered for days.", len(state.undelivered)),
            GaugeMetricFamily("vidfed_node_officers", "Officers who can read what others ask.", state.officers),
            GaugeMetricFamily("vidfed_node_on_duty", "People and addresses that would be called now by duty.toml.", on_duty),
        ]

    def _sources(self) -> list[Metric]:
        as_of = GaugeMetricFamily(
            "vidfed_node_source_as_of_timestamp_seconds", "Moment the source's records are of; 0: it was never read.", labels=["source"]
        )
        behind = GaugeMetricFamily("vidfed_node_source_behind", "1 if the source is behind its schedule.", labels=["source"])
        failures = GaugeMetricFamily("vidfed_node_source_failures", "Runs of the source that failed in a row.", labels=["source"])
        live = GaugeMetricFamily("vidfed_node_source_records", "Records of the source.", labels=["source"])
        with open_store(self._home, reads_only=True) as store:
            for each in overview(self._home, store, system_clock()):
                as_of.add_metric([each.name], each.as_of_ms / 1000)
                behind.add_metric([each.name], int(each.behind))
                failures.add_metric([each.name], each.failures)
                live.add_metric([each.name], each.live)
        return [as_of, behind, failures, live]

    def _policy(self) -> list[Metric]:
        path = self._home.folder / POLICY_FILE
        try:
            members = self._source.current().members.keys()
        except SecurityError:
            members = None
        try:
            policy = read_own_policy(self._home, members)
            rules, right = len(policy.rules), int(not not_in_force(self._home, policy, system_clock()))
        except NodeError:
            rules, right = 0, 0
        changed_s = path.stat().st_mtime if path.exists() else 0.0
        return [
            GaugeMetricFamily("vidfed_node_policy_right", "1 if the policy file is what is in force; 0: an older policy is.", right),
            GaugeMetricFamily("vidfed_node_policy_rules", "Rules in the policy file.", rules),
            GaugeMetricFamily("vidfed_node_policy_changed_timestamp_seconds", "When the policy file last changed.", changed_s),
        ]
