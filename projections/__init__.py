"""What is read, folded from the log: each module a table, how an event changes it, and its queries."""
