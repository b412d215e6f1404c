"""The master's side of zygotes: which one serves, how it boots, what it reports."""
