"""Following a release on Kubernetes: how its stages stand, what keeps them, their logs, their results.

    kubeconfig, faults, client, crds   the cluster, and what it answers when it refuses
    snapshot                           what there is of a release, as the API's own objects
    stage, pods, diagnosis             what they mean: pure functions over those objects; `issue` is their word for
    scheduling, containers, lost,      what keeps a release, with the value of the chart to change
    claims, secrets, refusals, queue,
    present, operator
    overview, table, logs, waiting     what a person, or CI, is shown
    pack, remote, transfer, carrier,   results out of the shared volume
    fetching

A stage's outcome is its RayJob's status and never its submitter pod, which can end well when the job does not.

An account needs `list` on rayjobs and rayclusters (ray.io) and on pods, and `get` on pods/log; `list` on events,
persistentvolumeclaims and Kueue's workloads explains more, and so do the pods and logs of KubeRay's operator. `fetch`
needs `get` or `create` on pods/exec (which, depends on the cluster's version), and where no head pod runs `create`,
`get` and `delete` on pods.
"""
