"""What quantizes a float graph: statistics of its tensors, ranges, types."""
