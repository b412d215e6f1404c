"""The master's side of zygotes: their boots, replacements and reports."""
