"""The documentation that is generated: reference pages, and the excerpts of the tutorial."""
