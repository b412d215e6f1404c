"""Redis as rqd uses it: keys, connections, and a method for each atomic script."""
