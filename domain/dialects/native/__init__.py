"""The native API's dialect: the canonical request, response and chunks themselves."""
