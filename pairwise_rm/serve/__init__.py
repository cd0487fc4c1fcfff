"""Serve an exported judge with Ray Serve: vLLM's OpenAI endpoint under /v1, and /judge in both orders."""
