"""Serves what programs enqueue by another library, for a gradual move: docs/bridge.md."""
