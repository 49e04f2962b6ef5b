"""Fine-tuning methods: one file each, found by scanning this folder. Start with `base.py`."""
