"""The `gateway` command. The only package that imports every process."""
