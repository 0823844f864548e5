"""The HTTP side: authenticate, look for a cached answer, admit, dispatch, answer."""
