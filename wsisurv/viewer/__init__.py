"""A local page that shows cases: the slide in deep zoom, what each tile did, and what is known of the patient."""
