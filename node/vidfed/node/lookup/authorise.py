"""Steps 8 to 10 of the pipeline: why it is asked, whether this member may, and whether it has anything left to spend."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidfed.index import DistanceError
from vidfed.node.errors import QuotasError, RateLimitedError
from vidfed.node.lookup.question import RefusalError, deciding
from vidfed.node.policy.policy import SELF_TEST_RULE, Requester
from vidfed.node.policy.quotas import Charge
from vidfed.wire.statuses import Status
from vidfed.wire.values import Purpose, Urgency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vidfed.node.lookup.authenticate import Authenticated
    from vidfed.node.lookup.question import Question
    from vidfed.node.policy.policy import PolicySource, Rule
    from vidfed.node.policy.quotas import Quotas
    from vidfed.wire.values import LookupRequest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Authoriser:
    """Steps 8 to 10 at one member's node."""

    member: str
    policy: PolicySource
    quotas: Quotas

    def authorise(self, question: Question, authenticated: Authenticated) -> None:
        """Steps 8 and 9: find the rule by which a question is answered, and what of it is searched.

        Raises:
            RefusalError: it says not why it is asked, or may not be.
        """
        purpose = _stated_purpose(authenticated.request)
        self._check_quarantine(authenticated, purpose)
        self._apply_policy(question, authenticated, purpose)

    def _check_quarantine(self, authenticated: Authenticated, purpose: Purpose) -> None:
        """Step 9: nobody in quarantine asks or answers more than a self-test."""
        peer, own = authenticated.peer, authenticated.directory.members.get(self.member)
        if purpose is not Purpose.SELF_TEST and (peer.quarantined or own is None or own.quarantined):
            raise RefusalError(Status.NOT_PERMITTED, "", f"{peer.id} or this member is in quarantine, where only a self-test is answered")

    def _apply_policy(self, question: Question, authenticated: Authenticated, purpose: Purpose) -> None:
        """Step 9: a rule for this member, the person's roles and the purpose; distances that anybody may ask."""
        request = authenticated.request
        requester = Requester(authenticated.peer.id, frozenset(authenticated.credential.roles), purpose)
        policy = self.policy.current()
        rule = SELF_TEST_RULE if purpose is Purpose.SELF_TEST else policy.decide(requester)
        if rule is None:
            raise RefusalError(Status.NOT_PERMITTED, "", policy.refusal(requester))
        try:
            for column in request.columns:
                column.algorithm.check_distance(column.max_distance)
        except DistanceError as error:
            raise RefusalError(Status.NOT_PERMITTED, str(error)) from None
        question.columns = rule.limit(request.columns)
        if not question.columns:
            raise RefusalError(Status.NOT_PERMITTED, "none of these hash algorithms", f"rule {rule.name} allows none of the algorithms")
        question.rule = rule

    def charge(self, asked: Sequence[tuple[Question, LookupRequest]], now_ms: int) -> None:
        """Step 10: take what questions cost from their members' budgets, and refuse those that have too little left."""
        paying = [(question, request, question.rule) for question, request in asked if not question.refused and question.rule is not None]
        if not paying:
            return
        with deciding(*(question for question, _, _ in paying)):
            charges = [_charge(question, rule, request) for question, request, rule in paying]
            try:
                paid_by = self.quotas.spend(charges, now_ms)
            except QuotasError as error:
                _log.error("%s; not answering", error)
                raise RefusalError(Status.INTERNAL_ERROR, "", str(error)) from None
            for (question, _, _), budget in zip(paying, paid_by, strict=True):
                if isinstance(budget, RateLimitedError):
                    question.refuse(RefusalError(Status.RATE_LIMITED, str(budget)))
                else:
                    question.budget = budget


def _stated_purpose(request: LookupRequest) -> Purpose:
    """Step 8: a question without a stated reason is refused."""
    header = request.header
    stated = {
        "legal basis": header.legal_basis.strip(),
        "offence type": header.offence_type.strip(),
        "case reference": header.case_reference.strip(),
    }
    missing = [name for name, value in stated.items() if not value]
    if header.purpose is None:
        missing.insert(0, "purpose")
    if header.purpose is None or missing:
        raise RefusalError(Status.JUSTIFICATION_MISSING, f"not stated: {', '.join(missing)}")
    return header.purpose


def _charge(question: Question, rule: Rule, request: LookupRequest) -> Charge:
    urgent = request.header.urgency is Urgency.LIFE_AT_RISK
    return Charge(question.member, rule.name, rule.limits, int(question.begins), request.hash_count, urgent)
