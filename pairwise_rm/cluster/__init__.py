"""What a stage does because it runs inside a cluster: its state file, waiting for its input, asking for GPUs.

The work itself is in `pairwise_rm.pipeline`; a release seen from outside is in `pairwise_rm.k8s`.
"""
