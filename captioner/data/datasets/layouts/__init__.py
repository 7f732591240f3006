"""The layouts of caption files that `data=folder` reads; one file a layout or family, listed in `registry`."""
