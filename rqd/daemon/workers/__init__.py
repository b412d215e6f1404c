"""The master's side of its children: the pool of workers, their attempts and the outcomes."""
