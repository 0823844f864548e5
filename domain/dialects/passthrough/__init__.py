"""Requests that go to their own vendor as they came: what money depends on is read, little is changed."""
