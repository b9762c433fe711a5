"""From a base and its adapters to a package. The only room, with the tools above it, that imports torch."""
