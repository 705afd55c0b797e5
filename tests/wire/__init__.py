"""Examples and laws of the codecs."""
