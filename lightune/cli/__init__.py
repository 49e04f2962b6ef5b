"""The command line: one file per command; `main.py` is the entry point."""
