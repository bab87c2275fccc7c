"""The machine of a run: devices, packages, environment variables for torch, and hardware to plan for."""
