"""How containers end: idle, after their time, or when nobody started them again; with warnings, and a reason."""
