"""Lowering of groups to loop nests, one module per kind of group."""
