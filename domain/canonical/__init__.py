"""The canonical request, response and stream: what the native API speaks and every translation goes through."""
