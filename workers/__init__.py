"""From a delivered job to an acknowledged one: claim, call the provider, append what happened, answer."""
