"""Contestants that run in this project's own environment: one module per process."""
