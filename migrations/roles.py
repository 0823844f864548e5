"""Who may do what in the database: the functions that each kind of process calls, and the tables that it reads.

The role that runs the migrations owns everything. The roles of the processes own nothing: they call the functions of
`FUNCTIONS`, which run as the owner, and read. Only the projector writes tables by itself, those of `PROJECTOR_TABLES`.
`migrations/grants.py` grants it. Contains no statements.
"""

from collections.abc import Mapping
from typing import Literal, LiteralString, TypeAlias

Process: TypeAlias = Literal["api", "worker", "projector"]
PROCESSES: tuple[Process, ...] = ("api", "worker", "projector")
Roles: TypeAlias = Mapping[Process, str]
"""The PostgreSQL role of each kind of process. One role may serve several."""

FUNCTIONS: Mapping[str, frozenset[Process]] = {
    "append_batch": frozenset({"api", "worker", "projector"}),
    "role_problems": frozenset({"api", "worker", "projector"}),
    "admit": frozenset({"api"}),
    "drop_unclaimed": frozenset({"api"}),
    "withdraw": frozenset({"api", "projector"}),
    "store_blob": frozenset({"api"}),
    "free_idempotency_key": frozenset({"api"}),
    "store_blobs": frozenset({"api"}),
    "take_jobs": frozenset({"api"}),
    "renew_jobs": frozenset({"api"}),
    "release_job": frozenset({"api"}),
    "fold_projects": frozenset({"api"}),
    "fold_keys": frozenset({"api"}),
    "fold_prices": frozenset({"api"}),
    "fold_providers": frozenset({"api"}),
    "fold_routes": frozenset({"api"}),
    "store_project_secret": frozenset({"api"}),
    "open_dashboard_session": frozenset({"api"}),
    "end_dashboard_session": frozenset({"api"}),
    "store_provider_key": frozenset({"api"}),
    "weigh_provider_key": frozenset({"api"}),
    "remove_provider_keys": frozenset({"api"}),
    "claim": frozenset({"worker"}),
    "admit_next": frozenset({"worker"}),
    "report_progress": frozenset({"worker"}),
    "take_settlements": frozenset({"worker"}),
    "end_tries": frozenset({"worker"}),
    "settle": frozenset({"projector"}),
    "record_head": frozenset({"projector"}),
    "end_leads": frozenset({"projector"}),
    "remove_expired_blobs": frozenset({"projector"}),
    "remove_idempotency_entries": frozenset({"projector"}),
    "remove_job_leases": frozenset({"projector"}),
    "remove_past_held": frozenset({"projector"}),
    "ask_audit_run": frozenset({"api"}),
    "take_audit_run": frozenset({"projector"}),
    "report_audit_run": frozenset({"projector"}),
    "end_audit_run": frozenset({"projector"}),
    "held_differences": frozenset({"api", "projector"}),
}
"""The functions that processes call, with who calls each. The others are called by these alone."""

PROJECTOR_TABLES: Mapping[str, tuple[LiteralString, ...]] = {
    "projection_checkpoints": ("INSERT", "UPDATE"),
    "quarantined_projects": ("INSERT", "UPDATE", "DELETE"),
    "budget_balances": ("INSERT", "UPDATE"),
    "usage_daily": ("INSERT", "UPDATE"),
    "usage_latency": ("INSERT", "UPDATE"),
    "usage_rollups": ("INSERT", "UPDATE"),
    "usage_durations": ("INSERT", "UPDATE"),
    "usage_totals": ("INSERT", "UPDATE"),
    "usage_total_durations": ("INSERT", "UPDATE"),
    "usage_months": ("INSERT", "UPDATE"),
    "usage_errors": ("INSERT", "UPDATE"),
    "usage_refusals": ("INSERT", "UPDATE"),
    "usage_attributes": ("INSERT", "UPDATE"),
    "usage_attribute_values": ("INSERT", "UPDATE"),
    "requests": ("INSERT", "UPDATE"),
    "cache_entries": ("INSERT", "UPDATE", "DELETE"),
    "idempotency_entries": ("INSERT", "UPDATE", "DELETE"),
    "budget_alerts": ("INSERT", "UPDATE"),
    "jobs": ("INSERT", "UPDATE"),
    "job_batches": ("INSERT", "UPDATE"),
    "settlements": ("INSERT", "UPDATE", "DELETE"),
}
"""What the projector writes: the read models that it folds, and how far it is."""

SECRET_TABLES: Mapping[str, Mapping[Process, tuple[str, ...]]] = {
    "provider_keys": {
        "api": ("project_id", "provider", "name", "hint", "weight"),
        "worker": ("project_id", "provider", "name", "sealed", "hint", "weight"),
    },
    "project_secrets": {"api": ("project_id", "sealed"), "worker": ("project_id", "sealed")},
    "dashboard_sessions": {
        "api": (
            "token_hash",
            "session_id",
            "project_id",
            "key_id",
            "credential_hash",
            "client",
            "opened_at",
            "expires_at",
        )
    },
}
"""The columns that a process reads of tables with sealed secrets. Every other table is read by every process."""
