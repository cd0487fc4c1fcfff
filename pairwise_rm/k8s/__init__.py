"""A release on Kubernetes, seen from outside: the state of its stages, what blocks them, their logs, their results.

    client                             requests to the cluster: which one, what is asked, its errors as sentences
    objects, snapshot                  what one object says; all objects of a release at one moment
    stage_status                       a stage's state and progress
    diagnosis, issue                   what blocks a stage, each issue with the value to change:
    pending, failed_pods               pods that do not start, pods that fail
    kuberay, kueue                     what KubeRay's operator and Kueue keep back
    status, logs, wait                 what people and CI see
    fetch, transfer, run_folder_tar    results: through which pod, how they come, what is sent from inside that pod
    manifest_digests                   whether rendered manifests agree on their recipes, before they are applied

A stage's outcome is its RayJob's status and never its submitter pod's, which can succeed when the job fails. What runs
inside the cluster is in `pairwise_rm.cluster`.

An account needs `list` on rayjobs and rayclusters (ray.io) and on pods, and `get` on pods/log; `list` on events,
persistentvolumeclaims and Kueue's workloads explains more, and so do the pods and logs of KubeRay's operator. `fetch`
needs `get` or `create` on pods/exec (depending on the cluster's version) and, where no head pod runs, `create`, `get`
and `delete` on pods.
"""
