"""How fast the pipeline is, next to its peers and the limits of what it stands on."""
