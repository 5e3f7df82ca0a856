"""The rules of graph-channels-last."""
