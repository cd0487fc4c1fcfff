"""What a stage does because it runs inside a cluster: its state file, waiting for its input, asking for GPUs.

What the stage works at is `pairwise_rm.pipeline`'s; what is seen of it from outside is `pairwise_rm.k8s`'s.
"""
