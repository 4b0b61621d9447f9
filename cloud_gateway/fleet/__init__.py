"""Who is in the fleet, what each device last said of itself, and what may be said of it now."""
