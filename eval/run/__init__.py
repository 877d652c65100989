"""``python -m eval run``: does what a suite asks for, several jobs at once, and goes on with what was interrupted."""
