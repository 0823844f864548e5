"""The providers' wire formats: canonical request to their JSON, their JSON to the canonical answer. Pure.

What a dialect cannot carry is dropped and told, or refused by the field's name; nothing is dropped in silence.
"""
