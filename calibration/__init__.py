"""Synthetic degradations, activation ranges and the quality gate."""
