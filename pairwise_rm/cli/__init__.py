"""The command line, one file a command: arguments, their help, and which words a person sees.

What a command does is decided in the package that it imports; exit codes are decided in `app.py`, for all.
"""
