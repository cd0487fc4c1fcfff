#!/bin/sh
# A check before the gpu target's first pip: its lock is for one Python version, and a base with another would fail half
# an hour later, with pip's message about some package.
#
#   check_base.sh 3.12
set -eu
wanted=$1

refuse() { # what is wrong
  echo "error: the gpu image needs a base with Python $wanted, its headers and pip, such as python:$wanted-slim-bookworm;" \
    "BASE_IMAGE has $1" >&2
  exit 1
}

command -v python3 >/dev/null || refuse "no python3"
found=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$found" = "$wanted" ] || refuse "Python $found"
python3 -m pip --version >/dev/null 2>&1 || refuse "no pip"
# Triton compiles a launcher for each kernel against them.
headers=$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
[ -e "$headers/Python.h" ] || refuse "no headers of Python ($headers/Python.h)"
