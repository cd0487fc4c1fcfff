"""What is wrong with a pod's containers: images, configuration, memory, volumes, and pods that were taken away."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pairwise_rm.follow.client import Object
from pairwise_rm.follow.pods import limit_of, statuses, subject, value_of
from pairwise_rm.follow.secrets import secret_remedy
from pairwise_rm.follow.trouble import Trouble, clipped

_PULLING = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "RegistryUnavailable", "ImageInspectError")
_CONFIGURED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_LOW_ON = re.compile(r"low on resource: ([\w-]+)")
_STARTING = ("ContainerCreating", "PodInitializing")
_PULL_SECRET_EVENTS = ("FailedToRetrieveImagePullSecret",)
_PULL_SECRETS = re.compile(r"image pull secrets \(([^)]*)\)")
_VOLUME_EVENTS = ("FailedMount", "FailedAttachVolume")
MANY_FAILURES = 5
"""So often in a row, and the next start will not end better."""


def broken(pod: Object, events: list[Object]) -> Iterator[Trouble]:
    """The troubles of a pod's containers. `events` are the pod's own, the latest last."""
    status, who = pod.get("status", {}), subject(pod)
    if status.get("reason") == "Evicted":
        yield Trouble(who, evicted(status.get("message", ""), value_of(pod)))
    images: set[str] = set()
    for container in sorted(statuses(pod), key=_backing_off):
        waiting = container.get("state", {}).get("waiting") or {}
        reason, name = waiting.get("reason", ""), container["name"]
        if reason in _PULLING:
            # The first failure may be a registry that hiccups; backing off follows one that failed again.
            if container["image"] not in images:
                yield Trouble(who, _image(container, waiting, events), hopeless=reason != "ErrImagePull")
            images.add(container["image"])
        elif reason == "ErrImageNeverPull":
            text = f"needs image {container['image']}, which is not on its node, and may not pull it"
            yield Trouble(who, f"{text}; set image.pullPolicy to IfNotPresent, or load the image", hopeless=True)
        elif reason in _CONFIGURED:
            yield Trouble(who, _configuration(pod, name, waiting), hopeless=True)
        elif reason in _STARTING and (volume := _last(events, _VOLUME_EVENTS)):
            why = clipped(volume.get("message", ""))
            yield Trouble(who, f"cannot mount its volumes: {why}; {_volume(pod, volume)}")
        else:
            yield from _stopped(pod, container)


def evicted(message: str, section: str) -> str:
    resource = found[1] if (found := _LOW_ON.search(message)) else "memory"
    return f"was evicted: {clipped(message).rstrip('. ')}; raise {section}.resources.requests.{resource}"


def oom_killed(container: str, limit: object, section: str) -> str:
    at = f" at its limit of {limit}" if limit else ""
    return f"ran out of memory: container {container} was OOMKilled{at}; raise {section}.resources.limits.memory"


def _backing_off(container: Object) -> bool:
    """Those first that have been tried again already: containers of one image report it at different times."""
    return (container.get("state", {}).get("waiting") or {}).get("reason") == "ErrImagePull"


def _image(container: Object, waiting: Object, events: list[Object]) -> str:
    # The runtime wraps the cause several times, each time behind what it was doing with the image's name in quotes.
    why = clipped(waiting.get("message", "").rpartition('": ')[2]) or "no reason is given"
    what = f"cannot pull image {container['image']}: {why} ({waiting['reason']})"
    if absent := _PULL_SECRETS.search((_last(events, _PULL_SECRET_EVENTS) or {}).get("message", "")):
        return f"{what}, and has no secret {absent[1]} for it; make it, or set image.pullSecrets"
    return f"{what}; set image.repository and image.tag, or image.pullSecrets for a private registry"


def _configuration(pod: Object, name: str, waiting: Object) -> str:
    message = waiting.get("message", "")
    remedy = secret_remedy(pod, message) or f"see {value_of(pod, name)}"
    return f"cannot start container {name} ({waiting['reason']}): {clipped(message)}; {remedy}"


def _stopped(pod: Object, container: Object) -> Iterator[Trouble]:
    """A container that ended badly: OOMKilled at any time before, or with an error while it does not run."""
    name, state = container["name"], container.get("state", {})
    now, before = state.get("terminated") or {}, container.get("lastState", {}).get("terminated") or {}
    section = value_of(pod, name)
    if "OOMKilled" in (now.get("reason"), before.get("reason")):
        yield Trouble(subject(pod), oom_killed(name, limit_of(pod, name, "memory"), section))
        return
    crashing = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
    if section == "submission" and not crashing:
        return  # its end says nothing of the stage's
    ended = before if crashing else now
    if crashing or now.get("exitCode"):
        why = clipped(ended.get("message", "")) or ended.get("reason", "Error")
        previous, starts = " --previous" if crashing else "", container.get("restartCount", 0) + 1
        yield Trouble(
            subject(pod),
            f"failed: container {name} ended with exit code {ended.get('exitCode', '?')} ({why}) and was started "
            f"{starts} time{'s' if starts > 1 else ''}; see "
            f"`kubectl logs -n {pod['metadata'].get('namespace')} {pod['metadata']['name']} -c {name}{previous}`",
            hopeless=starts >= MANY_FAILURES,
        )


def _volume(pod: Object, event: Object) -> str:
    message = event.get("message", "")
    if "Multi-Attach" in message:
        return "set storage.<name>.accessMode to ReadWriteMany, since pods on several nodes share it"
    if remedy := secret_remedy(pod, message):
        return remedy
    if "configmap" in message.lower():
        return "`helm upgrade` of the release makes it"
    return "see storage.data, storage.runs and storage.cache"


def _last(events: list[Object], reasons: tuple[str, ...]) -> Object | None:
    return next((event for event in reversed(events) if event.get("reason") in reasons), None)
