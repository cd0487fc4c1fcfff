"""A release on Kubernetes, seen from outside: how its stages stand, what keeps them, their logs, their results.

    client, kubeconfig, api_errors     the cluster, and what it answers when it refuses
    snapshot                           what there is of a release, as the API's own objects
    manifest_digests                   whether rendered manifests agree on their recipes, before they are applied
    kuberay, kueue, pods               what KubeRay, its operator, Kueue and a pod's spec tell of it
    stage_status, diagnosis            how a stage stands, and each issue that keeps it, with the value to change:
    pending, failed_pods, issue        pods that do not come to run, pods that fail
    status, logs, wait                 what a person, or CI, is shown
    fetch, fetch_pod, exec_stream,     results out of the shared volume
    tar_stream, run_folder_tar

A stage's outcome is its RayJob's status and never its submitter pod, which can end well when the job does not. What
runs inside the cluster is `pairwise_rm.cluster`'s.

An account needs `list` on rayjobs and rayclusters (ray.io) and on pods, and `get` on pods/log; `list` on events,
persistentvolumeclaims and Kueue's workloads explains more, and so do the pods and logs of KubeRay's operator. `fetch`
needs `get` or `create` on pods/exec (which, depends on the cluster's version), and where no head pod runs `create`,
`get` and `delete` on pods.
"""
