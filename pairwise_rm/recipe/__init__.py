"""The recipe: its model, its loading and layering from files and `key=value`, and the checks that need only it.

What a setting does is decided by the stage that reads it; checks that need the machine are in `train.preflight`.
"""
