"""``python -m eval evaluate``: whole games and true scores, of any agent, under any condition of observation."""
