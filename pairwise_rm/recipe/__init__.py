"""The recipe: its model, how it is loaded and layered from files and `key=value`, and what is checked of it alone.

What a setting does is decided by the stage that reads it; what can only be known of a machine, by `train.preflight`.
"""
