"""Whether one more job may start at a provider that others call, too. Counts nothing.

A share belongs to a provider and its owner: the project whose credential is used, else the installation. Two projects
may each have a provider of the same name.
"""

MODEST_PART = 8
"""A project is modest at a provider while it runs fewer jobs there than an eighth of the free slots."""
CROWD_FACTOR = 15
"""Modest projects together use at most 15/16 of the slots for one provider: callers of another one find a slot."""


def provider_may_start(factor: int, *, running: int, of_project: int, free: int) -> bool:
    """Return True if a provider's share of the slots leaves room for one more job of a project.

    It is `factor` times the free slots (`workers/fair_queue.py`). What other projects run does not use up the room of
    one that is modest: `of_project` of the provider's `running` jobs are its own.
    """
    if running < factor * free:
        return True
    return of_project * MODEST_PART < free and running < CROWD_FACTOR * free
