"""`uir-bench`: quality, speed and size, measured so that anyone can measure them again."""
