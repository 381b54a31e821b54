"""A challenger policy beside the active one: evaluated in a process of its own, compared, counted, without effect."""
