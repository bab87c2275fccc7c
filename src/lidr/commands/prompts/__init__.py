"""Prompt sets as users have them: reading, sampling and translating them before a run."""
