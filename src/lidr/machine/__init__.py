"""The machine that a run is on: devices, packages, what torch is told, and hardware that runs are planned for."""
