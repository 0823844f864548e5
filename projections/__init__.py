"""The read models, folded from the log. A module has the fold that writes its tables, and the queries that read it."""
