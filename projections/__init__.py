"""The read models, folded from the log. Each module has a table, how an event changes it, and its queries."""
