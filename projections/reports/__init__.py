"""Reports: what is read from the read models, composed with SQLAlchemy Core. `overview.py`, `usage.py` and `costs.py`
are the reports; `sources.py` chooses the table that answers a question with the fewest rows.
"""
