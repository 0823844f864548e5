"""The providers: each module calls one over its vendor's SDK and turns its refusals into our errors."""
