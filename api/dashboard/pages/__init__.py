"""The pages: for each a module with its `HANDLERS`, and its `NAVIGATION` entry if the head of the pages links to it."""
