"""Redis as rqd uses it: keys, connections, and one method for each atomic script."""
