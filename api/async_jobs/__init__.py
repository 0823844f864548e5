"""Asynchronous jobs: how they are accepted, and the loop that runs them."""
