"""What a maintainer or a user runs beside the two main commands: training, degrading, benchmarks."""
