"""From a trained module to portable files: one torch program, one file a format."""
