"""Films: frames by ffmpeg, in processes that are walled in, and their PDQ."""
