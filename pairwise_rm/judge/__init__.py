"""Judge pairs without labels: one prompt and two responses, or a file of them, in both orders.

Decided here: how the verdicts of two orders become one judgement. A single verdict is made in `evaluate.row_verdicts`.
"""
