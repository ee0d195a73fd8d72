"""From download to duty: what is handed out, on machines that know nothing of a checkout."""
