"""What a worker process decides: which tasks it takes in, and which it gives back."""
