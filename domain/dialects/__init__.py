"""The providers' wire formats: canonical request to their JSON, their JSON to the canonical answer. Pure.

What a dialect cannot carry is refused by the field's name, never dropped in silence.
"""
