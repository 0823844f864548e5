"""Measurements of the whole path: a running gateway between a load and a stub provider."""
