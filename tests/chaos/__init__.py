"""Damage done for real to the stages on this machine: `python -m tests.chaos [FAULT…]` prints what survived."""
