"""One module per outside system: PostgreSQL, NATS, the keys' vault, the process's settings."""
