"""Commands of operators to a master, and its rows and replies for them."""
