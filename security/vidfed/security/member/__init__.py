"""A member's folder, an investigator's kit, and what both do with everything below."""
