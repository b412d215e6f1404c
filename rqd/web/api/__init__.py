"""The HTTP API: other languages enqueue jobs in JSON, ask for their results, and cancel them."""
