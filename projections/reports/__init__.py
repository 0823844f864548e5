"""Reports: what is read from the read models, composed with SQLAlchemy Core. `usage.py` and `costs.py` are
the main reports, which `api/overview.py` combines; `sources.py` chooses the table that answers a question with the
fewest rows.
"""
