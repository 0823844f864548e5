"""The native surface, `/api/v1`: routes, shapes and errors in the gateway's own spelling."""
