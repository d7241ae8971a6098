"""Hugging Face libraries under a TorchTrainer: see `transformers`."""
