"""One run of a source: what it says compared with what is known, kept until it is written, and written as a whole."""
