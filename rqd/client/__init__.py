"""The user's side: queues, jobs, options of an enqueue, and what acts on them."""
