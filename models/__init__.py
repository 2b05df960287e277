"""Pinned model files: what there is (`models.json`), where it comes from, and whether it is unharmed."""
