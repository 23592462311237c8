"""A page about one run, or several side by side, from what lies in their folders."""
