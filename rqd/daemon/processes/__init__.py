"""The master's side of its processes: zygotes, children, the places they are in, what they run."""
