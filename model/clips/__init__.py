"""Offline clips: a timeline of controls and prompts in, a video file out, in any sampling order, in flat memory."""
