"""How fast the pipeline is, compared with its peers and with the parts that limit it."""
