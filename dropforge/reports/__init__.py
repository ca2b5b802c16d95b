"""Pages about what was decided: an evaluation, all versions, the model in production, a move."""
