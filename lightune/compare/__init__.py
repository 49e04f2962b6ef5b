"""Compare methods, models and settings on one task: same folds, same seeds, honest intervals."""
