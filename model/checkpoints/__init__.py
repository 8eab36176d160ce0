"""Large models from the files that their users have: which are needed, where they are, and modules made of them."""
