"""Strategies: how answers become chosen and rejected. One file each; `base.py` says what a strategy is."""
