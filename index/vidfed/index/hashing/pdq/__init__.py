"""PDQ: blur and shrink, cosine transform, bits."""
