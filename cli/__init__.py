"""The `gateway` command: the only package that knows every process."""
