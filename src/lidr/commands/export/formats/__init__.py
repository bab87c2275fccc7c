"""Formats of other tools for preference pairs, one file each; a path/file.py:Name takes one of your own."""
