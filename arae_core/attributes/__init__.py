"""Attributes of labelled sentences: markers that give them away, and cross-alignment of decoders."""
