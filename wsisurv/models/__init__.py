"""Neural modules: attention, teacher, student."""
