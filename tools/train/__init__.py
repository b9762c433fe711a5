"""Training: the base with its adapters, or adapters over a frozen base, from any folder of photos."""
