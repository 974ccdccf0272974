"""What people look at: pages, figures and cards."""
