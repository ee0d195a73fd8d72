"""Who is who: certificates, credentials, the directory as a value, the memory against replays."""
