"""What is kept of a segment's rows beside their codes: labels, and which are removed."""
