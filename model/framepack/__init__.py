"""FramePack as a world model: endless play and planned clips, over any network that takes a packed history."""
