"""The user's side: queues, jobs, options of an enqueue, and the actions on them."""
