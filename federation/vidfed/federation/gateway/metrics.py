"""What a gateway shows Prometheus: its own state file, as `vidfed gateway status` does, and the member's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from vidfed.federation.gateway.settings import read_gateway_section
from vidfed.federation.gateway.status import read_status
from vidfed.rpc.metrics import MemberCollector, serving_metrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from vidfed.security.member.home import MemberHome

_OPEN = "open"
# name of the metric: field of a node's state, what it says, whether it only grows, what one unit of the field is
_OF_NODES = {
    "vidfed_gateway_answers": ("answers", "Signed answers of this member's node since the gateway started.", True, 1.0),
    "vidfed_gateway_unanswered": ("unanswered", "Lookups this member's node did not answer since the gateway started.", True, 1.0),
    "vidfed_gateway_under_way": ("under_way", "Lookups this member's node is working on.", False, 1.0),
    "vidfed_gateway_waiting": ("waiting", "Lookups waiting for their turn at this member's node.", False, 1.0),
    "vidfed_gateway_usual_seconds": ("usual_ms", "How long this member's node usually takes.", False, 0.001),
}


def serving_gateway_metrics(home: MemberHome) -> AbstractContextManager[str]:
    """Answer Prometheus about a gateway while inside; see `serving_metrics`."""
    return serving_metrics(read_gateway_section(home).metrics_listen, GatewayCollector(home, home.directory_source()))


class GatewayCollector(MemberCollector):
    """What is true of a gateway and its member's folder when it is read."""

    def parts(self) -> dict[str, Callable[[], list[Metric]]]:
        """Return what reads each part."""
        return super().parts() | {"gateway": self._gateway}

    def _gateway(self) -> list[Metric]:
        state = read_status(self._home)
        lookups = GaugeMetricFamily("vidfed_gateway_lookups", "Lookups of own investigators being worked on.", state.lookups)
        breaker = GaugeMetricFamily("vidfed_gateway_breaker_open", "1 while this member's node is left alone.", labels=["member"])
        found: list[Metric] = [lookups, breaker]
        for node in state.nodes:
            breaker.add_metric([node["member"]], node["breaker"] == _OPEN)
        for name, (field, said, grows, unit) in _OF_NODES.items():
            family = (CounterMetricFamily if grows else GaugeMetricFamily)(name, said, labels=["member"])
            for node in state.nodes:
                family.add_metric([node["member"]], node[field] * unit)
            found.append(family)
        return found
