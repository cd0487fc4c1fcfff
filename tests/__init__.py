"""Tests by what they need: `unit` and `chart` this machine, `train` minutes of it, `e2e*` a Kubernetes cluster.

`unit` has the package's folders, and `repository` for what stands beside the package.
"""
