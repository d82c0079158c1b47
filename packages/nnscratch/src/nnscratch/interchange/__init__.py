"""Exchange of models with other software."""
