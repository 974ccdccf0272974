"""Pixels: the only room that opens slides."""

import logging

# what tifffile says of a file that it can't make out, a reader of ours says by the slide's name
logging.getLogger("tifffile").addHandler(logging.NullHandler())
