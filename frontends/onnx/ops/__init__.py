"""The operator importers, grouped by topic; `topics` imports them all, which fills the table."""
