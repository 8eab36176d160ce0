"""Our own world: MiniWorld floor plans, generated in real time on a CPU."""
