"""Fine-tuning with few weights (LoRA, arXiv 2106.09685), for any model that says what of it may learn."""
