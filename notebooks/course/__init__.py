"""What the notebooks show, and only they: one file a notebook, from state to controls."""
