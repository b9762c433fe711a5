"""The runtime: a package and a composition in, restored frames out."""
