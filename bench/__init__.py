"""Benchmarks: of a whole gateway between a load generator and a stub provider, and of admission alone."""
