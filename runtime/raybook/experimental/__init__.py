"""Names that Ray has under ``ray.experimental``."""
