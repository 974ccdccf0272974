"""From the tiles of a case to one vector: one small file each, and a registry."""
