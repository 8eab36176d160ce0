"""FramePack's frame context packing: schedules by name, tokens, rotary phases."""
