"""HunyuanVideo-FramePack on diffusers' modules: live as a WorldModel (F1), offline in every sampling order."""
