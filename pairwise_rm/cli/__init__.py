"""The command line, one file per command: arguments, help texts and output.

What a command does is decided in the package that it imports; exit codes are decided in `app.py`.
"""
