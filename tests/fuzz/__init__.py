"""Bytes of any kind into what reads them: `make fuzz` (BUDGET= seconds), and half a minute of it in `make unit`.

An input that fails is written to corpus/<target>/, and is tried first from then on. Commit it with the fix.
"""
