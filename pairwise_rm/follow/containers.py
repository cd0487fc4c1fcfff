"""What is wrong with a pod's containers: images, configuration, memory, volumes, and pods that were taken away."""

from __future__ import annotations

from collections.abc import Iterator

from pairwise_rm.follow.client import Object
from pairwise_rm.follow.pods import limit_of, statuses, subject, value_of
from pairwise_rm.follow.trouble import Trouble, clipped

_PULLING = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "RegistryUnavailable", "ImageInspectError")
_CONFIGURED = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_STARTING = ("ContainerCreating", "PodInitializing")
_VOLUME_EVENTS = ("FailedMount", "FailedAttachVolume")
_KILLED = 137


def broken(pod: Object, events: list[Object]) -> Iterator[Trouble]:
    """The troubles of a pod's containers. `events` are the pod's own, the latest last."""
    status, who = pod.get("status", {}), subject(pod)
    if status.get("reason") == "Evicted":
        yield Trouble(who, evicted(status.get("message", ""), value_of(pod)))
    for container in statuses(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        reason, name = waiting.get("reason", ""), container["name"]
        if reason in _PULLING:
            # The first failure may be a registry that hiccups; backing off follows one that failed again.
            yield Trouble(who, _image(container, waiting), hopeless=reason != "ErrImagePull")
        elif reason == "ErrImageNeverPull":
            text = f"needs image {container['image']}, which is not on its node, and may not pull it"
            yield Trouble(who, f"{text}; set image.pullPolicy to IfNotPresent, or load the image", hopeless=True)
        elif reason in _CONFIGURED:
            yield Trouble(who, _configuration(name, waiting, value_of(pod, name)), hopeless=True)
        elif reason in _STARTING and (volume := _last(events, _VOLUME_EVENTS)):
            yield Trouble(who, f"cannot mount its volumes: {clipped(volume.get('message', ''))}; {_volume(volume)}")
        else:
            yield from _stopped(pod, container)


def evicted(message: str, section: str) -> str:
    return f"was evicted: {clipped(message).rstrip('. ')}; raise {section}.resources.requests"


def oom_killed(container: str, limit: object, section: str) -> str:
    at = f" at its limit of {limit}" if limit else ""
    return f"ran out of memory: container {container} was OOMKilled{at}; raise {section}.resources.limits.memory"


def _image(container: Object, waiting: Object) -> str:
    why = clipped(waiting.get("message", "")) or waiting["reason"]
    return (
        f"cannot pull image {container['image']} ({waiting['reason']}): {why}; "
        "set image.repository and image.tag, or image.pullSecrets for a private registry"
    )


def _configuration(name: str, waiting: Object, section: str) -> str:
    why = clipped(waiting.get("message", ""))
    value = "secrets" if "secret" in why.lower() else section
    return f"cannot start container {name} ({waiting['reason']}): {why}; see {value}"


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
        previous = " --previous" if crashing else ""
        yield Trouble(
            subject(pod),
            f"container {name} ended with exit code {ended.get('exitCode', '?')} ({why}) and was started "
            f"{container.get('restartCount', 0) + 1} times; see "
            f"`kubectl logs -n {pod['metadata'].get('namespace')} {pod['metadata']['name']} -c {name}{previous}`",
        )


def _volume(event: Object) -> str:
    message = event.get("message", "")
    if "Multi-Attach" in message:
        return "set storage.<name>.accessMode to ReadWriteMany, since pods on several nodes share it"
    if "secret" in message.lower():
        return "see secrets"
    return "see storage.data, storage.runs and storage.cache"


def _last(events: list[Object], reasons: tuple[str, ...]) -> Object | None:
    return next((event for event in reversed(events) if event.get("reason") in reasons), None)
