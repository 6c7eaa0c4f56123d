"""Explanation: which places of an image a class score rests on, and pictures of that."""
