"""What opens slides: OpenSlide, the authority, and readers that packages add."""
