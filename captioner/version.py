"""The version, where every room can read it without importing the rooms above."""

__version__ = "0.2.0"
