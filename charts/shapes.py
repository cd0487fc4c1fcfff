"""What the values in values.yaml do not show: enums, patterns, and the types in empty maps, lists and nulls."""

from __future__ import annotations

import copy
from typing import Any

Schema = dict[str, Any]

_QUANTITY: Schema = {"$ref": "#/definitions/quantity"}
_TEXT_MAP: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_TEXTS: Schema = {"type": "array", "items": {"type": "string", "minLength": 1}}
_SECONDS_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 1}
_COUNT: Schema = {"type": "integer", "minimum": 0}
# A name in Kubernetes, or empty; 5 of the 63 characters are left for `-head`.
_DNS_NAME: Schema = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]{0,56}[a-z0-9])?)?$"}
_PEERS: Schema = {"type": "array", "items": {"$ref": "#/definitions/networkPolicyPeer"}}
_CIDRS: Schema = {"type": "array", "items": {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"}}


def _enum(*names: str) -> Schema:
    return {"type": "string", "enum": list(names)}


def _a(definition: str) -> Schema:
    return {"$ref": f"#/definitions/{definition}"}


def _named(pattern: str, each: Schema) -> Schema:
    # Not by `propertyNames`, whose refusals Helm prints with the path of some other value.
    return {"type": "object", "additionalProperties": False, "patternProperties": {pattern: each}}


def _stages(*names: str) -> Schema:
    return {"type": "array", "uniqueItems": True, "items": _enum(*names)}


# By the full path of a value, as a regular expression.
SHAPES: dict[str, Schema] = {
    r"image\.repository": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._/:-]*$"},
    r"image\.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    r"image\.pullPolicy": _enum("Always", "IfNotPresent", "Never"),
    r"image\.pullSecrets": _TEXTS,
    r"rayVersion": {"type": "string", "pattern": r"^[0-9]+\.[0-9]+\.[0-9]+"},
    r"recipe\.(overrides|inline)": {},
    r"attempt": {"type": ["string", "integer"], "maxLength": 200},
    r"mode": _enum("shared", "ephemeral"),
    r"stages\.[a-z]+\.(inputTimeout|gpuTimeout)": {"type": "integer", "minimum": 1},
    r"stages\.[a-z]+\.activeDeadlineSeconds": _SECONDS_OR_NULL,
    r"stages\.train\.first": _stages("convert"),
    r"stages\.evaluate\.first": _stages("convert", "train"),
    r"stages\.export\.first": _stages("convert", "train", "evaluate"),
    r"submission\.mode": _enum("K8sJobMode", "HTTPMode"),
    r"submission\.backoffLimit": _COUNT,
    r"(.+\.)?resources": _a("resources"),
    r"head\.gpuNodes": _enum("forbid", "avoid", "allow"),
    r"head\.gpuNodeLabels": _TEXTS,
    r"(.+\.)?nodeSelector": _TEXT_MAP,
    r"(.+\.)?tolerations": {"type": "array", "items": _a("toleration")},
    r"(.+\.)?affinity": _a("affinity"),
    r"(.+\.)?(env|extraEnv)": {"type": "array", "items": _a("variable")},
    r"(.+\.)?extraVolumes": {"type": "array", "items": _a("volume")},
    r"(.+\.)?extraVolumeMounts": {"type": "array", "items": _a("volumeMount")},
    r"(.+\.)?(extraInitContainers|extraContainers)": {"type": "array", "items": _a("container")},
    r"(.+\.)?runtimeClassName": _DNS_NAME,
    r"poolDefaults\.topologySpreadConstraints": {"type": "array", "items": _a("topologySpreadConstraint")},
    r"nameOverride": {"type": "string", "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"},
    r"serviceAccount\.name": _DNS_NAME,
    r"extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
    r"autoscaling\.idleTimeoutSeconds": _COUNT,
    r"autoscaling\.upscalingMode": _enum("Default", "Conservative", "Aggressive"),
    r"poolDefaults\.(gpus|minReplicas|maxReplicas|replicas)": _COUNT,
    r"(head|poolDefaults)\.terminationGracePeriodSeconds": _SECONDS_OR_NULL,
    r"poolDefaults\.preemption\.marginSeconds": _COUNT,
    r"poolDefaults\.rayCpus": {"type": ["integer", "null"], "minimum": 1},
    r"poolDefaults\.platform": _enum("gpu-operator", "gke", "eks", "aks", "none"),
    r"poolDefaults\.gpuProduct": _enum("a100-40gb", "a100-80gb", "none"),
    r"poolDefaults\.sharedMemory": {"anyOf": [{"type": "null"}, _QUANTITY]},
    r"poolDefaults\.rdma\.count": {"type": "integer", "minimum": 1},
    r"poolDefaults\.nccl": _named("^NCCL_[A-Z0-9_]+$", {"type": ["string", "integer"]}),
    r"pools": _named("^[a-z]([-a-z0-9]{0,28}[a-z0-9])?$", {}),
    r"probes\.startupSeconds": {"type": "integer", "minimum": 5},
    r"probes\.(timeoutSeconds|livenessFailures)": {"type": "integer", "minimum": 1},
    r"storage\.[a-z]+\.size": _a("size"),
    r"storage\.[a-z]+\.accessMode": _enum("ReadWriteOnce", "ReadWriteMany"),
    r"storage\.upload": {"type": "string", "pattern": "^([a-z][a-z0-9+]*://[A-Za-z0-9._~:/@%+=,-]+)?$"},
    r"(serviceAccount\.annotations|(pod|common)Annotations|(pod|common)Labels|.+\.labels)": _TEXT_MAP,
    r"networkPolicy\.ingress\.(dashboard|metrics|serve)": _PEERS,
    r"networkPolicy\.ingress\.operator\.podLabels": {**_TEXT_MAP, "minProperties": 1},
    r"networkPolicy\.egress\.dns": _PEERS,
    r"networkPolicy\.egress\.(cidrs|except|kubernetesApi)": _CIDRS,
    r"networkPolicy\.egress\.hosts": {"type": "array", "items": {"type": "string", "pattern": "^[a-z0-9.*-]+$"}},
    r"networkPolicy\.egress\.extra": {"type": "array", "items": _a("egressRule")},
    r"batch\.backoffLimit": {"type": ["integer", "null"], "minimum": 0},
    r"batch\.preRunningDeadlineSeconds": _SECONDS_OR_NULL,
    r"batch\.ttlSecondsAfterFinished": _COUNT,
    r"batch\.deletionRules": {"type": "array", "items": _a("deletionRule")},
    r"priorityClass\.value": {"type": "integer", "maximum": 1000000000},
    r"podMonitor\.interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
    r"serve\.model": {"type": "string", "pattern": "^(/[A-Za-z0-9._/-]+)?$"},
    r"serve\.tensorParallel": {"type": ["integer", "null"], "minimum": 1},
    r"serve\.vllm": _named("^[a-z][a-z0-9_-]*$", {}),
    r"serve\.autoscaling\.(minReplicas|downscaleDelaySeconds)": _COUNT,
    r"serve\.autoscaling\.(maxReplicas|targetOngoingRequests)": {"type": "integer", "minimum": 1},
}

_OPEN: Schema = {"type": "object"}


def _said(description: str, schema: Schema) -> Schema:
    return {"description": description, **schema}


def _closed(required: list[str] | None = None, **properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": required} if required else schema


# Kubernetes' own types, deep enough to catch typing mistakes; the API server validates the rest.
DEFINITIONS: dict[str, Schema] = {
    "quantity": {
        "type": ["string", "integer"],
        "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
        "description": "A Kubernetes quantity: 500m, 8, 10Gi",
    },
    "size": {
        "type": ["string", "integer"],
        "pattern": r"^([0-9]*[1-9][0-9]*(\.[0-9]+)?|0*\.[0-9]*[1-9][0-9]*)(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
        "minimum": 1,
        "description": "A Kubernetes quantity above zero: 50Gi, 1Ti",
    },
    "resources": _closed(
        requests=_said("What a node must have free", {"type": "object", "additionalProperties": _QUANTITY}),
        limits=_said("What the container may take at most", {"type": "object", "additionalProperties": _QUANTITY}),
    ),
    "toleration": _closed(
        key=_said("Key of the taint; none: any", {"type": "string"}),
        operator=_said("How the value is compared", _enum("Exists", "Equal")),
        value=_said("Value of the taint, with Equal", {"type": "string"}),
        effect=_said("Effect of the taint; none: any", _enum("NoSchedule", "PreferNoSchedule", "NoExecute")),
        tolerationSeconds=_said("Seconds that NoExecute is tolerated", {"type": "integer"}),
    ),
    "affinity": _closed(
        nodeAffinity=_said("Kubernetes' NodeAffinity", _OPEN),
        podAffinity=_said("Kubernetes' PodAffinity", _OPEN),
        podAntiAffinity=_said("Kubernetes' PodAntiAffinity", _OPEN),
    ),
    "variable": _closed(
        ["name"],
        name=_said("Name of the variable", {"type": "string", "minLength": 1}),
        value=_said("Its value", {"type": "string"}),
        valueFrom=_said("Where its value stands, a secretKeyRef say", _OPEN),
    ),
    "volume": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": _said("Its name", {"type": "string", "minLength": 1})},
        "minProperties": 2,
    },
    "volumeMount": _closed(
        ["name", "mountPath"],
        name=_said("Name of the volume", {"type": "string", "minLength": 1}),
        mountPath=_said("Folder or file of the container", {"type": "string", "pattern": "^/"}),
        subPath=_said("Path within the volume", {"type": "string"}),
        subPathExpr=_said("The same, with variables of the container", {"type": "string"}),
        readOnly=_said("Whether it cannot be written", {"type": "boolean"}),
        recursiveReadOnly=_said("Whether that holds for mounts below it", _enum("Disabled", "IfPossible", "Enabled")),
        mountPropagation=_said("Whether mounts below it are shared", _enum("None", "HostToContainer", "Bidirectional")),
    ),
    "container": {
        "type": "object",
        "required": ["name", "image"],
        "properties": {
            "name": _said("Its name", {"type": "string", "minLength": 1}),
            "image": _said("Its image", {"type": "string", "minLength": 1}),
        },
    },
    "topologySpreadConstraint": _closed(
        ["maxSkew", "topologyKey", "whenUnsatisfiable"],
        maxSkew=_said("By how many pods two domains may differ", {"type": "integer", "minimum": 1}),
        topologyKey=_said("Label of the nodes whose values are the domains", {"type": "string", "minLength": 1}),
        whenUnsatisfiable=_said("What becomes of a pod that does not fit", _enum("DoNotSchedule", "ScheduleAnyway")),
        labelSelector=_said("Pods that are counted", _OPEN),
        matchLabelKeys=_said("Labels in which those pods are like this one", _TEXTS),
        minDomains=_said("Domains at least", {"type": "integer", "minimum": 1}),
        nodeAffinityPolicy=_said("Whether node affinity counts", _enum("Honor", "Ignore")),
        nodeTaintsPolicy=_said("Whether taints count", _enum("Honor", "Ignore")),
    ),
    "networkPolicyPeer": _closed(
        namespaceSelector=_said("Namespaces by their labels", _OPEN),
        podSelector=_said("Pods by their labels", _OPEN),
        ipBlock=_said("A network, and networks in it that are not meant", _OPEN),
    ),
    "egressRule": _closed(
        to=_said("Peers; none: any", {"type": "array", "items": {"$ref": "#/definitions/networkPolicyPeer"}}),
        ports=_said("Ports; none: any", {"type": "array", "items": _OPEN}),
    ),
    "deletionRule": _closed(
        ["policy", "condition"],
        policy=_said("What goes", _enum("DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone")),
        condition=_said(
            "When it goes",
            _closed(
                jobStatus=_said("State of the Ray job", _enum("SUCCEEDED", "FAILED")),
                jobDeploymentStatus=_said("State of the RayJob", _enum("Failed")),
                ttlSeconds=_said("Seconds after that", _COUNT),
            ),
        ),
    ),
}


def partial(schema: Schema) -> Schema:
    """The schema with nothing required and no defaults, for values that override a complete recipe."""
    part = copy.deepcopy(schema)
    part.pop("required", None)
    properties = part.get("properties", {})
    for name, below in properties.items():
        below.pop("default", None)
        properties[name] = partial(below) if "properties" in below else below
    return part
