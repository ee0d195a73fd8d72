"""A node and a gateway as their operators see them: log, metrics, health, policy taken over while they run."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

import vidfed.node.lookup.metrics
import vidfed.node.serving.metrics  # noqa: F401 - its counters are then known to this process
from tests.support.patience import PATIENCE_S
from vidfed.rpc.channels import blocking_channel
from vidfed.security.identity.tls import node_server_name
from vidfed.security.member.home import MemberHome
from vidfed.synthetic.federation import FEDERATION, LocalFederation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.conftest import Ran

DEPLOY = Path(__file__).parents[2] / "deploy"
KNOWN, UNKNOWN = "5d" * 16, "e7" * 16
SERIES, CASE, ASKED_CASE, TAG = "SeriesNobodyLogs", "CaseNobodyLogs", "AskedCaseNobodyLogs", "TagNobodyLogs"


class Operated:
    """One member's services, and what its operator can look at."""

    def __init__(self, base: Path, federation: LocalFederation, vidfed: Callable[..., Ran]) -> None:
        self.base = base
        self.federation = federation
        self.vidfed = vidfed
        self.home = MemberHome(federation.places["nl"].folder)

    def look_up(self, md5: str, *more: str) -> Ran:
        why = ("--case", ASKED_CASE, "--purpose", "identification", "--legal-basis", "law", *more)
        return self.vidfed("lookup", "--hash", f"md5:{md5}", "--kit", self.base / "kit", *why, "--json")

    def log(self, service: str) -> str:
        return (self.home.folder / f"{service}.log").read_text()

    def scrape(self, service: str) -> dict[str, dict[tuple[str, ...], float]]:
        """Return the values of each metric, by the values of its labels."""
        place = self.federation.places["nl"]
        port = int((place.node_address if service == "node" else place.gateway_address).rpartition(":")[2]) + 2_000
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            families = text_string_to_metric_families(answer.read().decode())
            found: dict[str, dict[tuple[str, ...], float]] = {}
            for sample in (sample for family in families for sample in family.samples):
                found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
        return found

    def wait_for(self, what: Callable[[], Any]) -> Any:  # noqa: ANN401 - what is waited for
        """Look again until it is true; services take things over in their own time."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := what()):
            assert time.monotonic() < deadline, "it did not come about"
            self.federation.process_id("nl")
        return found


@pytest.fixture(scope="module")
def operated(
    tmp_path_factory: pytest.TempPathFactory, vidfed: Callable[..., Ran], run: Callable[[Sequence[str | Path]], Ran]
) -> Iterator[Operated]:
    base = tmp_path_factory.mktemp("operated")
    with LocalFederation(base, run) as federation:
        federation.create({"nl": "Unit NL"})
        folder = federation.places["nl"].folder
        config = folder / "vidfed.toml"
        config.write_text(config.read_text().replace('format = "console"\nlevel = "info"', 'format = "json"\nlevel = "debug"'))
        (base / "hashes.csv").write_text(f"md5,series,case_reference,tags\n{KNOWN},{SERIES},{CASE},{TAG}\n")
        run(["node", "import", str(base / "hashes.csv"), "--home", str(folder)])
        federation.issue_kit("nl", base / "kit")
        federation.start("nl")
        federation.start("nl", service="gateway")
        yield Operated(base, federation, vidfed)


def test_a_lookup_is_counted_and_timed_by_stage(operated: Operated) -> None:
    assert operated.look_up(KNOWN).status == 0
    assert operated.look_up(UNKNOWN, "--urgent").status == 0
    found = operated.scrape("node")
    assert found["vidfed_node_lookups_total"]["ANSWERED",] >= 2
    assert found["vidfed_node_hits_total"]["nl",] >= 1
    assert found["vidfed_node_urgent_lookups_total"]["ordinary",] >= 1
    assert {stage for (stage,) in found["vidfed_node_stage_seconds_count"]} == {"admit", "search", "audit", "sign"}
    assert found["vidfed_node_requests_open"] == {("in time",): 0.0, ("half spent",): 0.0, ("overdue",): 0.0}
    assert found["vidfed_node_on_duty"] == found["vidfed_node_officers"] == {(): 0.0}
    assert found["vidfed_node_index_version"] == found["vidfed_node_store_version"] == {(): 1.0}
    assert 0 < time.time() - found["vidfed_node_records_changed_timestamp_seconds"][()] < 3_600
    assert found["vidfed_audit_entries"][()] >= 4
    assert found["vidfed_disk_free_bytes"][()] > 0
    assert found["vidfed_certificate_expires_timestamp_seconds"][()] > time.time()
    assert set(found["vidfed_readable"].values()) == {1.0}


def test_a_gateway_shows_how_the_nodes_do(operated: Operated) -> None:
    assert operated.look_up(KNOWN).status == 0
    found = operated.wait_for(lambda: (now := operated.scrape("gateway")).get("vidfed_gateway_answers_total") and now)
    assert found["vidfed_gateway_answers_total"]["nl",] >= 1
    assert found["vidfed_gateway_breaker_open"]["nl",] == 0


def test_neither_hashes_nor_case_data_are_in_any_log(operated: Operated) -> None:
    """At the most talkative level, after lookups that were answered, refused and broken, and a restart."""
    operated.look_up(KNOWN)
    operated.look_up(UNKNOWN)
    operated.look_up(KNOWN, "--purpose", "self-test")
    records = operated.home.folder / "store/records.db"
    for path in (records, records.with_name("records.db-wal"), records.with_name("records.db-shm")):
        if path.exists():
            path.rename(path.with_suffix(path.suffix + ".away"))
    records.write_bytes(b"no database" * 1_000)
    operated.look_up(KNOWN)
    records.unlink()
    for path in records.parent.glob("*.away"):
        path.rename(path.with_suffix(""))
    operated.federation.stop("nl")
    operated.federation.start("nl")
    assert operated.look_up(KNOWN).json()["hits"]
    raw = bytes.fromhex(KNOWN)
    secrets = [KNOWN, UNKNOWN, base64.b64encode(raw).decode(), repr(raw)[2:-1], SERIES, CASE, ASKED_CASE, TAG]
    for service in ("node", "gateway"):
        said = operated.log(service)
        assert said
        assert [secret for secret in secrets if secret.lower() in said.lower()] == []


def call_with_server_name(address: str, name: bytes) -> None:
    """Begin a TLS handshake that asks for a server of this name, as anybody can who reaches the port."""
    greeting, place = ssl.MemoryBIO(), b"a" * len(name)
    context = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), greeting, server_hostname=place.decode()).do_handshake()
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(greeting.read().replace(place, name))
        connection.recv(1)


def test_a_stranger_writes_nothing_into_a_log(operated: Operated) -> None:
    place = operated.federation.places["nl"]
    for service, address in (("node", place.node_address), ("gateway", place.gateway_address)):
        call_with_server_name(address, b'x\n{"level":"info","message":"all is well"}')
        operated.look_up(KNOWN)
        assert "all is well" not in operated.log(service)


def test_the_log_is_one_json_object_a_line(operated: Operated) -> None:
    operated.look_up(KNOWN)
    for service in ("node", "gateway"):
        lines = [json.loads(line) for line in operated.log(service).splitlines()]
        assert lines
        for line in lines:
            assert {"time", "level", "service", "member", "logger", "message"} <= line.keys()
            assert (line["service"], line["member"]) == (service, "nl")


def test_a_broken_policy_keeps_the_one_before_and_raises_an_alarm_everywhere(operated: Operated) -> None:
    path = operated.home.folder / "policy.toml"
    right = path.read_text()
    path.write_text(right.replace("purposes", "porpoises"))
    try:
        operated.wait_for(lambda: "policy refused" in operated.log("node"))
        assert operated.scrape("node")["vidfed_node_policy_right"][()] == 0
        assert "NOT USABLE" in operated.vidfed("node", "status", "--home", operated.home.folder).out
        assert operated.look_up(KNOWN).json()["hits"]
        path.write_text(right.replace('"nl"', '"*"'))
        operated.wait_for(lambda: "policy changed" in operated.log("node"))
        assert operated.scrape("node")["vidfed_node_policy_right"][()] == 1
    finally:
        path.write_text(right)


def test_health_is_told_to_members_and_to_nobody_else(operated: Operated) -> None:
    place, home = operated.federation.places["nl"], operated.home
    tls, name = home.node_tls(), node_server_name(FEDERATION, "nl")
    options = [("grpc.ssl_target_name_override", name)]
    ca = home.directory_source().current().member("nl").tls_ca
    known = grpc.ssl_channel_credentials(ca, tls.key, tls.certificate)
    check = health_pb2.HealthCheckRequest(service="vidfed.v1.NodeService")

    def ask(channel: grpc.Channel) -> int:
        with channel:
            return int(health_pb2_grpc.HealthStub(channel).Check(check, timeout=PATIENCE_S).status)

    serving = health_pb2.HealthCheckResponse.SERVING
    operated.wait_for(lambda: ask(grpc.secure_channel(place.node_address, known, options)) == serving)
    for stranger in (
        grpc.secure_channel(place.node_address, grpc.ssl_channel_credentials(ca), options),
        grpc.insecure_channel(place.node_address),
    ):
        with pytest.raises(grpc.RpcError):
            ask(stranger)


def test_health_is_not_watched_since_a_call_that_never_ends_takes_another_s_place(operated: Operated) -> None:
    home = operated.home
    directory = home.directory_source().current()
    with blocking_channel(operated.federation.places["nl"].node_address, home.node_tls(), directory, directory.member("nl")) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        with pytest.raises(grpc.RpcError) as refused:
            next(watched)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_probe_learns_whether_the_node_answers(operated: Operated) -> None:
    probe = ("node", "health", "--home", operated.home.folder)
    assert operated.vidfed(*probe) == (0, "SERVING\n", "")
    operated.federation.stop("nl")
    assert operated.vidfed(*probe) == (1, "no node runs here\n", "")
    operated.federation.start("nl")


def test_every_metric_of_the_dashboard_exists(operated: Operated) -> None:
    assert operated.look_up(KNOWN).status == 0
    operated.wait_for(lambda: "vidfed_gateway_answers_total" in operated.scrape("gateway"))
    known = {*REGISTRY._names_to_collectors, *operated.scrape("node"), *operated.scrape("gateway")}
    for file in ("grafana-dashboard.json", "prometheus-alerts.yml"):
        named = set(re.findall(r"\bvidfed_[a-z_]+", (DEPLOY / file).read_text()))
        assert named
        assert named - known == set()


def test_an_investigator_without_a_nodes_packages_and_without_posix_modules_looks_up(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support/taken_away"))
    ran = operated.look_up(KNOWN)
    assert ran.status == 0, ran.err
    assert len(ran.json()["hits"]) == 1
