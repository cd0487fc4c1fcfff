"""A release on Kubernetes, seen from outside: the state of its stages, what blocks them, their logs, their results.

    client, kubeconfig, api_errors     the cluster, and its refusals in a sentence
    snapshot                           a release's objects at one moment, as the API gives them
    manifest_digests                   whether rendered manifests agree on their recipes, before they are applied
    kuberay, kueue, pods               what KubeRay's operator, Kueue and a pod's spec say
    stage_status, diagnosis            a stage's state, and each issue that blocks it, with the value to change:
    pending, failed_pods, issue        pods that do not start, pods that fail
    status, logs, wait                 what people and CI see
    fetch, fetch_pod, exec_stream,     results from the shared volume
    tar_stream, run_folder_tar

A stage's outcome is its RayJob's status and never its submitter pod, which can end well when the job does not. What
runs inside the cluster is `pairwise_rm.cluster`'s.

An account needs `list` on rayjobs and rayclusters (ray.io) and on pods, and `get` on pods/log; `list` on events,
persistentvolumeclaims and Kueue's workloads explains more, and so do the pods and logs of KubeRay's operator. `fetch`
needs `get` or `create` on pods/exec (which, depends on the cluster's version), and where no head pod runs `create`,
`get` and `delete` on pods.
"""
