"""Following a release on Kubernetes: how its stages stand, what keeps them, their logs, their results.

    kubeconfig, faults, client   the cluster, and what it answers when it refuses
    crds, release, snapshot      what there is of a release, as the API's own objects
    stage, pods, trouble         what they mean: pure functions over those objects
    table, logs, waiting         what a person, or CI, is shown
    remote, transfer, carrier    results out of the shared volume

A stage's outcome is its RayJob's status and never its submitter pod, which can end well when the job does not.
"""
