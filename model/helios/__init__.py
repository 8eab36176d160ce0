"""Helios (FramePack's 16/2/1 history on Wan 14B, Apache-2.0) on diffusers' modules, live as a WorldModel."""
