"""Serve an exported judge with Ray Serve: vLLM's OpenAI endpoint under /v1, and /judge in both orders.

Decided here: the HTTP side, and how vLLM is started, watched and ended. What a judgement is: `judge`.
"""
