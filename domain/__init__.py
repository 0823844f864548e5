"""The rules, without I/O: pure functions over frozen values. No clock, no randomness, no other package of ours."""
