"""What operators ask of a master, and what they see of it."""
