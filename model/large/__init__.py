"""The large models as a user asks for them: settings in words, files on the disk, and a machine they must fit."""
