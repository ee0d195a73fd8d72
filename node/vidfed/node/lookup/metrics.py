"""What the pipeline counts and how long its stages take. Names begin with vidfed_node_; deploy/grafana-dashboard.json shows them."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

lookups = Counter("vidfed_node_lookups", "Lookups and chunks of streams, by what became of them.", ["status"])
hashes = Counter("vidfed_node_hashes", "Hashes asked about in lookups that were answered, by member.", ["member"])
hits = Counter("vidfed_node_hits", "Hits told, by member.", ["member"])
urgent = Counter("vidfed_node_urgent_lookups", "Answered lookups with a life at risk, by the budget that paid.", ["budget"])
unknown_callers = Counter("vidfed_node_unknown_callers", "Calls by somebody who is no member's node.")
task_failures = Counter("vidfed_node_task_failures", "Times that a task beside the lookups ended by a defect and was begun anew.", ["task"])
_stage_seconds = Histogram(
    "vidfed_node_stage_seconds", "Time that the lookups answered together take, by stage.", ["stage"], buckets=_SECONDS
)
admit_seconds, search_seconds, audit_seconds, sign_seconds = (_stage_seconds.labels(name) for name in ("admit", "search", "audit", "sign"))
