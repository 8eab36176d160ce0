"""Wan, the paper's other base, on diffusers' modules: FramePack's packing added to a text-to-video transformer."""
