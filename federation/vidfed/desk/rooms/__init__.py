"""The rooms: requests in, pages out. What they do is done by the same functions as the commands."""
