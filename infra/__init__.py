"""Access to everything outside the process: PostgreSQL, NATS, encryption, settings, child processes."""
