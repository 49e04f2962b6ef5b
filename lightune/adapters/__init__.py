"""Adapters as files: the manifest, PEFT's format, strict loading, merging."""
