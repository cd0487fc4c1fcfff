"""Objects that the API server does not let in: quotas, limits, pod security, classes and accounts that are missing."""

from __future__ import annotations

import re

from pairwise_rm.follow.trouble import Trouble, clipped

_QUOTA = re.compile(r"exceeded quota: (\S+), requested: (.*), used: .*, limited: (.*)")
_SIZES = re.compile(r"cpu|memory|storage")
_COUNTS = re.compile(r"([\w./-]+)=(\d+)(?=[,\s]|$)")
_LIMIT_RANGE = re.compile(r"(?:maximum|minimum) \S+ usage per \w+ is|limit to request ratio")
_LASTING = (
    "PodSecurity",
    "serviceaccount",
    "ServiceAccount",
    "admission webhook",
    "no PriorityClass with name",
    "must specify",
)


def refused(subject: str, message: str, section: str, what: str = "pod") -> Trouble:
    """The trouble of something that is refused; `section` of the chart's values shapes it."""
    remedy = _remedy(message, section)
    text = f"gets no {what}: {clipped(message)}{f'; {remedy}' if remedy else ''}"
    return Trouble(subject, text, hopeless=_lasting(message))


def _remedy(message: str, section: str) -> str:
    pool = section.startswith("pools.")
    if quota := _QUOTA.search(message):
        raised = f"have ResourceQuota {quota[1]} raised"
        if pool and "gpu" in quota[2]:
            return f"lower {section}.gpus, or {raised}"
        return f"lower {section}.resources, or {raised}" if _SIZES.search(quota[2]) else raised
    if "failed quota" in message and "must specify" in message:
        return f"set {section}.resources with these"
    if _LIMIT_RANGE.search(message):
        return f"set {section}.resources to what the namespace's LimitRange allows"
    if "no PriorityClass with name" in message:
        own = f"{section}.priorityClassName, " if pool else ""
        return f"make it, or set {own}priorityClass.name or priorityClass.create"
    return "set serviceAccount.create to true" if re.search("service ?account", message, re.IGNORECASE) else ""


def _lasting(message: str) -> bool:
    """Whether it stays so until somebody changes something; what others hold of a quota they give back."""
    if quota := _QUOTA.search(message):
        most = dict(_COUNTS.findall(quota[3]))
        return any(int(count) > int(most.get(name, count)) for name, count in _COUNTS.findall(quota[2]))
    return bool(_LIMIT_RANGE.search(message)) or any(word in message for word in _LASTING)
