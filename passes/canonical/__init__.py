"""The rules of graph-canonicalize, by topic."""
